"""CIDEr-D of texts while they are being learned: a reward (Rennie et al. 2017, arXiv 1612.00563, section 3).

The metric takes its document frequencies from what is evaluated; a reward needs them before. So they are those of the
training references, once for all, and the reward of a text depends on that text alone.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from vlm_jax.metrics.cider import MAX_ORDER, NgramWeights, Vector, cider_d
from vlm_jax.metrics.words import count_ngrams, split_words
from vlm_jax.text.normalize import ptb_tokenize
from vlm_jax.types import EOS

END = " "  # stands at the end of a text, as a word that none of the words can be


@dataclasses.dataclass(frozen=True, kw_only=True)
class CiderReward:
    """Tokens Int[b r l] and ids Int[b] -> float32 [b r], CIDEr-D against `corpus.references[id]`; 1.0 is 100 points.

    With `count_end` the end of a text is a word as well, of the references too, so that "a dog with a" is paid less
    than "a dog" for ending where nobody ends; it has no weight by itself, since every text has one. Without, the
    reward is the metric. A text that was cut off before EOS has no end.

    What is written is split at spaces, and each piece is tokenised once; pieces never need their neighbours, since a
    tokenizer of ours writes no punctuation that PTB rules would read across spaces.
    """

    corpus: Any  # a source: whose `references` are the training captions, by id
    tokenizer: Any
    reference: str = "captions"
    tokenize: Callable[[str], list[str]] = ptb_tokenize
    count_end: bool = True

    def __call__(self, tokens: np.ndarray, ids: np.ndarray) -> np.ndarray:
        table = _table(self)
        rewards = np.zeros(tokens.shape[:2], np.float32)
        for row, (texts, image) in enumerate(zip(np.asarray(tokens).tolist(), ids.tolist())):
            if image < 0:  # a row that fills the batch
                continue
            references = table.references(image)
            known: dict[tuple[int, ...], float] = {}  # samples of one picture are often the same
            for column, text in enumerate(map(tuple, texts)):
                if text not in known:
                    known[text] = cider_d(table.vector(text), references)
                rewards[row, column] = known[text]
        return rewards

    def check(self, ids: np.ndarray) -> None:
        """Raises ValueError for pictures that have no references."""
        known = self.corpus.references
        missing = [i for i in np.asarray(ids).tolist() if i >= 0 and i not in known]
        if missing:
            raise ValueError(
                f"{type(self).__name__}: {self.corpus} has no references for example id {missing[0]}; expected the "
                "source of the training pictures"
            )


class _Table:
    """What a reward needs of its corpus: every reference in words, the weights, and vectors as they are asked for."""

    def __init__(self, reward: CiderReward):
        self.reward = reward
        self._texts = {
            image: [self._ended(split_words(reward.tokenize(t))) for t in texts[reward.reference]]
            for image, texts in reward.corpus.references.items()
        }
        self._weights = NgramWeights(
            [count_ngrams(words, MAX_ORDER) for words in texts] for texts in self._texts.values()
        )
        self._vectors: dict[int, tuple[Vector, ...]] = {}
        self._words: dict[str, list[str]] = {}  # of each piece between spaces

    def references(self, image: int) -> tuple[Vector, ...]:
        if image not in self._vectors:
            self._vectors[image] = tuple(map(self._weights.vector, self._texts[image]))
        return self._vectors[image]

    def vector(self, tokens: tuple[int, ...]) -> Vector:
        words = []
        for piece in self.reward.tokenizer.decode(tokens).split():
            if piece not in self._words:
                self._words[piece] = split_words(self.reward.tokenize(piece))
            words += self._words[piece]
        return self._weights.vector(self._ended(words) if EOS in tokens else words)

    def _ended(self, words: list[str]) -> list[str]:
        return [*words, END] if self.reward.count_end else words


_table = functools.lru_cache(maxsize=4)(_Table)
