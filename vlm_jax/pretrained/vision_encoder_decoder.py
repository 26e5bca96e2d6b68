"""A ViT that is looked at by GPT-2 (Li et al. 2023, arXiv 2109.10282, have such a pair): VisionEncoderDecoderModel.

Its memory has the class token first.
"""

import dataclasses

import jax
import jax.numpy as jnp

from vlm_jax.fusion.projection import Projection
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained import gpt2, vit
from vlm_jax.pretrained.places import below, linear
from vlm_jax.pretrained.settings import Family, Settings


def read(settings: Settings) -> Family:
    """Writes batch["target"] about batch["image"]."""
    outer, inner = settings.inner("encoder"), settings.inner("decoder")
    outer.expect("model_type", "vit")
    inner.expect("model_type", "gpt2")
    rows = gpt2.vocabulary(inner)
    decoder = gpt2.decoder(inner, rows)
    seen = vit.read_model(outer)
    encoder = dataclasses.replace(seen.model, keep_class_token=True)
    other = decoder.width != encoder.width
    fusion = Projection(width=decoder.width) if other else None
    model = Generator(image_encoder=encoder, fusion=fusion, decoder=decoder)
    found = [
        *below(seen.places, "image_encoder/", "encoder."),
        *below(gpt2.places(decoder, rows, reads=True), "decoder/", "decoder."),
    ]
    if other:
        found += linear("fusion/projection", "enc_to_dec_proj")
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    return Family(model, tuple(found), ({"image": seen.example[0], "target": tokens},))


READERS = {"VisionEncoderDecoderModel": read}
