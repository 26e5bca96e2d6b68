"""GIT (Wang et al. 2022, arXiv 2205.14100): GitForCausalLM, for one picture.

All of CLIP's vectors, through a linear layer and a norm, stand before the text; BERT, reading from left to right, writes on.
The text's positions begin at 0, whatever stands before it.
"""

import jax
import jax.numpy as jnp

from vlm_jax.fusion.projection import Projection
from vlm_jax.language.transformer import Form, TransformerDecoder
from vlm_jax.layers.norm import LayerNorm
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained import bert, clip_vision
from vlm_jax.pretrained.places import Rows, Tied, below, linear, norm
from vlm_jax.pretrained.settings import Family, Settings


def read(settings: Settings) -> Family:
    """Writes batch["target"] about batch["image"]."""
    seen = settings.inner("vision_config")
    settings.expect("num_image_with_embedding", None)
    encoder = clip_vision.clip(seen, patch_size=16, keep_class_token=True)
    rows = settings.token_rows(settings.integer("vocab_size", 30522))
    decoder = TransformerDecoder(
        **bert.sizes(settings, rows, num_layers=6, max_length=1024),
        form=Form(norm_words=True, scale_words=False),
        prefix=True,
        project_prefix=False,
        tied=settings.flag("tie_word_embeddings", False),
        unscored=rows.unscored,
    )
    fusion = Projection(
        width=decoder.width, norm=LayerNorm(epsilon=seen.number("layer_norm_eps", 1e-5))
    )
    base = "git."
    places = [
        *below(
            clip_vision.clip_places(encoder), "image_encoder/", f"{base}image_encoder.vision_model."
        ),
        *linear("fusion/projection", f"{base}visual_projection.visual_projection.0"),
        *norm("fusion/norm", f"{base}visual_projection.visual_projection.1"),
        *below(bert.decoder_places(decoder, rows, base), "decoder/"),
    ]
    if decoder.tied:
        words = f"{base}embeddings.word_embeddings.weight"
        bias = "decoder/vocabulary/bias"
        places.append(Tied(theirs="output.weight", to=words))
    else:
        kernel, bias = (f"decoder/vocabulary/linear/{name}" for name in ("kernel", "bias"))
        places.append(Rows(ours=kernel, theirs="output.weight", **rows.fields, transposed=True))
    places.append(Rows(ours=bias, theirs="output.bias", **rows.fields))
    model = Generator(image_encoder=encoder, fusion=fusion, decoder=decoder)
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    image = clip_vision.image_of(seen, encoder)
    return Family(model, tuple(places), ({"image": image, "target": tokens},))


READERS = {"GitForCausalLM": read}
