"""A prompt before the answer: what it is, is said once, for training and for every other use.

Prompt(tokenizer=words, template="question: {question} answer:", length=16)            writes `prompt`
TokenizeAnswer(prompt=..., max_length=24, key="answer")                    writes `target` and `predicted`

prompt     [PAD PAD BOS what color]                      on the left, so that the answer follows the last place
target     [BOS what color red EOS PAD]
predicted  [ 0    0     1   1   0 ]                      of the labels, one place on: the answer and EOS
"""

import dataclasses
import functools
import re
from collections.abc import Iterator

import numpy as np

from vlm_jax.data.source import BadExample
from vlm_jax.data.text_transforms import text_at
from vlm_jax.text.tokenizers import Tokenizer
from vlm_jax.types import BOS, EOS, PAD, Example

IMAGE, BEGIN = "<image>", "<bos>"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
    """The prompt of an example -> Int32[length] at `output`, padded on the left.

    In the `template` "{question}" stands for the example's text at `question`, as it is; "<image>" for `num_images`
    times `image_token`, where the decoder has the picture in the text; "<bos>" for BOS, which comes first where the
    template does not say. `end_token` ends it, where the decoder is told so where its prompt ends. Those of a published
    tokenizer's special tokens that the template has are named in `special`. What an example holds is text and never one of
    these, whatever is written in it. `lead` is what stands between the prompt and an answer and belongs to its first token,
    such as a space.

    An example whose prompt is longer than `length` is left out and counted, and stops a run where it is no exception
    (`Pipeline`); nothing is cut.
    """

    tokenizer: Tokenizer
    template: str = "{question}"
    length: int
    image_token: int | None = None
    num_images: int = 0
    end_token: int | None = None
    special: tuple[str, ...] = ()
    lead: str = ""
    output: str = "prompt"

    def __post_init__(self):
        if (IMAGE in self.template) != (self.image_token is not None and self.num_images > 0):
            raise ValueError(
                f"Prompt(template={self.template!r}, image_token={self.image_token}, num_images={self.num_images}): "
                f"expected {IMAGE} in the template, an image_token and num_images of 1 or more together"
            )

    @property
    def key(self) -> str:
        """What it reads of an example; its id, where the prompt is always the same."""
        return next((piece[1:-1] for piece in self._pieces if piece.startswith("{")), "id")

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        ids = self.ids(example)
        row = np.full(self.length, PAD, np.int32)
        row[self.length - len(ids) :] = ids
        return {**example, self.output: row}

    def ids(self, example: Example) -> list[int]:
        """The tokens of the prompt, without padding."""
        ids: list[int] = [] if BEGIN in self._pieces else [BOS]
        parts = list(self._parts(example))
        first = int(parts[:1] == [(BEGIN,)])  # a text begins behind BOS, where that comes first
        for place, part in enumerate(parts):
            if part == (IMAGE,):
                ids += self.image_ids(example)
            elif part == (BEGIN,):
                ids.append(BOS)
            elif part[-1] in self.special:
                ids += self.tokenizer.encode_special(part[-1])
            else:
                # Pieces of one text: only the first begins it.
                encode = self.tokenizer.encode_behind if place > first else self.tokenizer.encode
                ids += encode("".join(part))
        if self.end_token is not None:
            ids.append(self.end_token)
        if len(ids) > self.length:
            raise BadExample(
                f"example {int(example['id'])}",
                f"its prompt has {len(ids)} tokens, Prompt.length is {self.length}",
            )
        return ids

    def image_ids(self, example: Example) -> list[int]:
        """The tokens that keep the places of the picture."""
        return [self.image_token] * self.num_images

    def _parts(self, example: Example) -> Iterator[tuple[str, ...]]:
        """The marks, each by itself, and what stands between them with the example's texts filled in."""
        text: list[str] = []
        for piece in self._pieces:
            if piece in (IMAGE, BEGIN, *self.special):
                if text:
                    yield (*text, "")
                    text = []
                yield (piece,)
            elif piece.startswith("{"):
                text.append(text_at(example, piece[1:-1], self))
            elif piece:
                text.append(piece)
        if text:
            yield (*text, "")

    @functools.cached_property
    def _pieces(self) -> tuple[str, ...]:
        marks = "|".join(map(re.escape, (IMAGE, BEGIN, *self.special)))
        return tuple(re.split(rf"({marks}|\{{\w+\}})", self.template))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizeAnswer:
    """The prompt of an example, its text at `key` and EOS -> `target` Int32[max_length], and `predicted`
    Bool[max_length-1]: the labels that are of the answer, and EOS.

    An answer too long, for `max_length` or for `max_answer` tokens with EOS, loses its last words and keeps its EOS. An
    example with no room for any of its answer is left out and counted, and stops a run where it is no exception: it would
    have nothing to learn.
    """

    prompt: Prompt
    max_length: int
    max_answer: int | None = None
    key: str = "answer"
    output: str = "target"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        before = self.prompt.ids(example)
        text = text_at(example, self.key, self)
        answer = self.prompt.tokenizer.encode(self.prompt.lead + text if text else "")
        room = self.max_length - len(before) - 1
        if room < min(len(answer), 1):
            raise BadExample(
                f"example {int(example['id'])}",
                f"its prompt has {len(before)} tokens, which leave no room for the answer in {self.max_length}",
            )
        if self.max_answer is not None:
            room = min(room, self.max_answer - 1)
        answer = [*answer[:room], EOS]
        target = np.full(self.max_length, PAD, np.int32)
        target[: len(before) + len(answer)] = before + answer
        predicted = np.zeros(self.max_length - 1, bool)
        predicted[len(before) - 1 : len(before) + len(answer) - 1] = True
        return {**example, self.output: target, "predicted": predicted}
