"""Idefics3 (Laurençon et al. 2024, arXiv 2408.12637) and SmolVLM (Marafioti et al. 2025, arXiv 2504.05299):
Idefics3ForConditionalGeneration, SmolVLMForConditionalGeneration.

SigLIP's patches, squares of them side by side in one vector, through one linear layer without bias into places that the
text keeps for them; Llama reads on from there. Large pictures are cut into squares of the encoder's size (data/tiles.py).
"""

import jax
import jax.numpy as jnp

from vlm_jax.fusion.projection import Projection
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained import clip_vision, llama
from vlm_jax.pretrained.llava import image_row
from vlm_jax.pretrained.places import below, linear
from vlm_jax.pretrained.settings import Family, Settings
from vlm_jax.vision.tiled import Tiled

TEMPLATE = "<bos>User:<image>{question}<end_of_utterance>\nAssistant:"
ENDING = "<end_of_utterance>"  # of an answer; the end of the text may be another token
SPECIAL = (ENDING,)


def read(settings: Settings) -> Family:
    """Writes on from batch["target"], which has a place for each square of patches of batch["image"] [b t h w c]."""
    seen, text = settings.inner("vision_config"), settings.inner("text_config")
    text.expect("model_type", "llama")
    encoder = clip_vision.siglip(seen, (1152, 16, 224, 32))
    rows = text.token_rows(text.integer("vocab_size", 32000))
    decoder = llama.decoder(text, rows, image_token=image_row(settings, rows))
    merge = settings.integer("scale_factor", 2)
    side = encoder.image_size[0] // encoder.patch_size
    fusion = Projection(width=decoder.width, use_bias=False, merge=merge, side=side)
    model = Generator(image_encoder=Tiled(encoder=encoder), fusion=fusion, decoder=decoder)
    connector = "model.connector.modality_projection.proj"
    places = (
        *below(clip_vision.siglip_places(encoder), "image_encoder/encoder/", "model.vision_model."),
        *linear("fusion/projection", connector, bias=False),
        *below(llama.places(decoder, rows, base="model.text_model."), "decoder/"),
    )
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    one = clip_vision.image_of(seen, encoder)
    image = jax.ShapeDtypeStruct((1, *one.shape), one.dtype)
    example = {"image": image, "target": tokens}
    return Family(model, places, (example,), template=TEMPLATE, special=SPECIAL, lead=" ")


READERS = {
    "Idefics3ForConditionalGeneration": read,
    "SmolVLMForConditionalGeneration": read,
}
