"""LLaVA 1.5 (Liu et al. 2024, arXiv 2310.03744): LlavaForConditionalGeneration.

CLIP's patches, as its last block but one leaves them, through two linear layers into places that the text keeps for them,
"<image>" as many times as there are patches; Llama reads on from there.
"""

import jax
import jax.numpy as jnp

from vlm_jax.fusion.projection import Projection
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained import clip_vision, llama
from vlm_jax.pretrained.places import Place, TokenRows, below, linear
from vlm_jax.pretrained.settings import ACTIVATIONS, Family, Settings

TEMPLATE = "<bos>USER: <image>\n{question} ASSISTANT:"


def read(settings: Settings) -> Family:
    """Writes on from batch["target"], which has a place for each patch of batch["image"]."""
    seen, text = settings.inner("vision_config"), settings.inner("text_config")
    seen.expect("model_type", "clip_vision_model")
    text.expect("model_type", "llama")
    settings.expect("vision_feature_layer", -2)
    settings.expect("vision_feature_select_strategy", "default")
    of = seen.integer("num_hidden_layers", 12)
    encoder = clip_vision.clip(seen, num_layers=of - 1)
    rows = text.token_rows(text.integer("vocab_size", 32000))
    decoder = llama.decoder(text, rows, image_token=image_row(settings, rows))
    fusion = Projection(
        width=decoder.width,
        hidden=decoder.width,
        activation=settings.choice("projector_hidden_act", ACTIVATIONS, "gelu"),
        use_bias=settings.flag("multimodal_projector_bias", True),
    )
    places = (
        *below(
            clip_vision.clip_places(encoder, of=of), "image_encoder/", "vision_tower.vision_model."
        ),
        *_projection(fusion),
        *below(llama.places(decoder, rows), "decoder/", "language_model."),
    )
    model = Generator(image_encoder=encoder, fusion=fusion, decoder=decoder)
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    image = clip_vision.image_of(seen, encoder)
    example = {"image": image, "target": tokens}
    return Family(model, places, (example,), older=clip_vision.FLAT, template=TEMPLATE)


READERS = {"LlavaForConditionalGeneration": read}


def image_row(settings: Settings, rows: TokenRows) -> int:
    """Our row of the token that stands where the picture's vectors do."""
    key = "image_token_index" if settings.has("image_token_index") else "image_token_id"
    return rows.ids.index(settings.integer(key))


def _projection(fusion: Projection) -> tuple[Place, ...]:
    return (
        *linear("fusion/hidden_layer", "multi_modal_projector.linear_1", bias=fusion.use_bias),
        *linear("fusion/projection", "multi_modal_projector.linear_2", bias=fusion.use_bias),
    )
