"""What the metrics that count words share: how a text becomes words, and words n-grams."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from vlm_jax import __version__
from vlm_jax.text.normalize import ptb_tokenize

TOKENISERS = {ptb_tokenize: "ptb-corenlp-3.4.1-lowercase-nopunct"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordMetric:
    """A metric of words. Subclasses give `stats_of_words` and `result`."""

    reference: str = "captions"
    tokenize: Callable[[str], list[str]] = ptb_tokenize

    def stats(self, prediction: str, references: Sequence[str]) -> Any:
        return self.stats_of_words(*self.words_of(prediction, references))

    def words_of(
        self, prediction: str, references: Sequence[str]
    ) -> tuple[list[str], list[list[str]]]:
        if isinstance(references, str) or not references:
            raise ValueError(
                f"{type(self).__name__} got references {references!r} for the prediction "
                f"{prediction[:60]!r}; expected a sequence of at least one text"
            )
        return self.tokenize(prediction), [self.tokenize(text) for text in references]

    def stats_of_words(self, words: list[str], references: Sequence[list[str]]) -> Any:
        raise NotImplementedError

    def signature(self) -> str:
        """What a number of this metric depends on besides the texts."""
        return "|".join([type(self).__name__.lower(), tokeniser_of(self), version()])


def tokeniser_of(metric: WordMetric) -> str:
    """`tokeniser:` and its official name, or where a function of one's own is found."""
    tokenize = metric.tokenize
    if tokenize in TOKENISERS:
        return f"tokeniser:{TOKENISERS[tokenize]}"
    if hasattr(tokenize, "__qualname__"):
        return f"tokeniser:{getattr(tokenize, '__module__', 'builtins')}.{tokenize.__qualname__}"
    return f"tokeniser:{tokenize!r}"  # a dataclass that is called


def version() -> str:
    return f"vlm_jax:{__version__}"


def split_words(words: Sequence[str]) -> list[str]:
    """Split at the no-break spaces inside PTB words ("3 1/2"), as BLEU and CIDEr officially do."""
    return " ".join(words).split()


def count_ngrams(words: Sequence[str], max_order: int) -> Counter:
    """Every n-gram of 1 to max_order words, as a tuple, in order of first appearance by order."""
    return Counter(
        gram
        for order in range(1, max_order + 1)
        for gram in zip(*(words[i:] for i in range(order)))
    )
