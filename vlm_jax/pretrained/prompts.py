"""How a published model of pictures is asked."""

from typing import Any

import jax

from vlm_jax.data.prompted import BEGIN, IMAGE, Prompt
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.data.tiles import TiledPrompt, Tiles, layout
from vlm_jax.pretrained.settings import Family
from vlm_jax.pretrained.weights import shapes
from vlm_jax.vision.tiled import Tiled

QUESTION = "{question}"


def check(family: Family, name: str) -> None:
    """ValueError where the family writes nothing about pictures, or we do not know how it is asked."""
    model = family.model
    if getattr(model, "image_encoder", None) is None or not hasattr(model, "decoder"):
        raise ValueError(f"{name} does not write about pictures")
    if family.template is None and model.decoder.image_token is not None:
        raise ValueError(f"{name}: how this family is asked, we have no form for")


def prompt_of(
    family: Family, tokenizer: Any, transforms: tuple, *, words: int, question: str = QUESTION
) -> Prompt | Tokenize | None:
    """What makes a prompt of an example's "question", of at most so many `words` (tokens); or of another `question`, the
    same for all, which is text and has no marks. Where a question is read beside the picture it becomes `text`; None where a
    family only captions. ValueError where what is asked, or how pictures are cut, does not go with the family.

    `transforms` are those of its pictures (processors.transforms), which cut them into squares or do not.
    """
    model, template = family.model, family.template
    marks = (IMAGE, BEGIN, "\n", "{", *family.special)
    mark = next((each for each in marks if each in question), None)
    if question != QUESTION and mark is not None:
        raise ValueError(f"given {question!r}, expected one line of text without {mark!r}")
    if template is None:
        if getattr(model, "text_encoder", None) is None:
            return None
        if question != QUESTION:
            raise ValueError(
                "this family reads a question beside the picture, expected one that only captions or is asked by a prompt; "
                "try finetune_vqa published"
            )
        return Tokenize(tokenizer=tokenizer, max_length=words + 2, key="question", output="text")
    pictures, most, kind = 0, 0, Prompt
    if IMAGE in template:
        memory = jax.eval_shape(
            lambda variables, batch: model.apply(variables, batch, train=False, method="encode"),
            shapes(family),
            family.example[0],
        )
        pictures = most = memory.mask.shape[1]
    if isinstance(model.image_encoder, Tiled):
        kind = TiledPrompt
        tiles = next((step.most for step in transforms if isinstance(step, Tiles)), None)
        if tiles is None:
            raise ValueError(
                "preprocessor_config.json does not cut pictures into squares, which this family reads; expected "
                "Idefics3ImageProcessor or SmolVLMImageProcessor"
            )
        most = len(tokenizer.encode_special(layout(pictures, *tiles)))
    return kind(
        tokenizer=tokenizer,
        template=template.replace(QUESTION, question),
        length=most + len(tokenizer.encode(template)) + words + 8,
        image_token=model.decoder.image_token,
        num_images=pictures,
        special=family.special,
        lead=family.lead,
    )
