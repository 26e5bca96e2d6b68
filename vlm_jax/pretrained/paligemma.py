"""PaliGemma (Beyer et al. 2024, arXiv 2407.07726) and PaliGemma 2 (Steiner et al. 2024, arXiv 2412.03555):
PaliGemmaForConditionalGeneration.

SigLIP's patches through one linear layer into the first places of the text; Gemma, or Gemma 2, sees all of the picture
and of the prompt, which a line break ends, from each of their places, and writes on from there.
"""

import jax
import jax.numpy as jnp

from vlm_jax.fusion.projection import Projection
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained import clip_vision, gemma
from vlm_jax.pretrained.llava import image_row
from vlm_jax.pretrained.places import below, linear
from vlm_jax.pretrained.settings import Family, Settings

LINE_BREAK = 108  # of Gemma's tokenizer
DECODERS = {"gemma": gemma.first, "gemma2": gemma.second}

TEMPLATE = "<image><bos>{question}\n"


def read(settings: Settings) -> Family:
    """Writes on from batch["target"], which has a place for each patch of batch["image"], then BOS and a prompt."""
    seen, text = settings.inner("vision_config"), settings.inner("text_config")
    seen.expect("model_type", "siglip_vision_model")
    encoder = clip_vision.siglip(seen)
    rows = gemma.rows(text)
    make = text.choice("model_type", DECODERS)
    decoder = make(
        text, rows, image_token=image_row(settings, rows), prefix_end=rows.ids.index(LINE_BREAK)
    )
    model = Generator(
        image_encoder=encoder, fusion=Projection(width=decoder.width), decoder=decoder
    )
    places = (
        *below(clip_vision.siglip_places(encoder), "image_encoder/", "vision_tower.vision_model."),
        *linear("fusion/projection", "multi_modal_projector.linear"),
        *below(gemma.places(decoder, rows), "decoder/", "language_model."),
    )
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    image = clip_vision.image_of(seen, encoder)
    example = {"image": image, "target": tokens}
    return Family(model, places, (example,), older=clip_vision.FLAT, template=TEMPLATE)


READERS = {"PaliGemmaForConditionalGeneration": read}
