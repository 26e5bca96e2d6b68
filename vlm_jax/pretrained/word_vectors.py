"""Published word vectors into the rows of an embedding table."""

import dataclasses
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vlm_jax.text.word_vectors import read_vectors


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordVectors:
    """Puts the vectors of `file` into the rows of `tokenizer`'s words, in every table that the rule `parameter` finds.

    `file` is word2vec's .txt or .bin or GloVe's .txt (text.word_vectors), below $VLM_JAX_DATA where it is not a whole
    path. Words that the file does not have keep what was drawn for them, brought to the deviation of the file's
    vectors (Kim 2014, section 3.1). Says on stderr how many words are covered. `parameter` is searched in
    'text_encoder/embedding/table'.
    """

    file: str
    tokenizer: Any
    parameter: str = r"(^|/)embedding/table$"

    def __call__(self, params: Mapping[str, Any]) -> dict[str, Any]:
        flat = flatten_dict(dict(params), sep="/")
        names = [name for name in flat if re.search(self.parameter, name)]
        if not names:
            raise ValueError(
                f"WordVectors: the rule {self.parameter!r} finds no parameter; expected a regular expression found in "
                f"at least one of {', '.join(list(flat)[:8])}"
            )
        path, words = self._path(), self.tokenizer.vocabulary
        found = read_vectors(path, wanted=frozenset(words))
        if not found.words:
            raise ValueError(
                f"{path} has none of the {len(words):,} words of the tokenizer; expected words such as "
                f"{', '.join(words[4:9])}"
            )
        row = {word: number for number, word in enumerate(words)}
        rows = np.array([row[word] for word in found.words])
        for name in names:
            table = np.array(flat[name])
            if table.shape[1] != found.vectors.shape[1] or len(table) < len(words):
                raise ValueError(
                    f"{path} has vectors of {found.vectors.shape[1]} numbers for {len(words):,} words, {name} is "
                    f"{table.shape}; give the embedding width {found.vectors.shape[1]}"
                )
            table *= found.vectors.std() / max(table.std(), 1e-12)
            table[rows] = found.vectors
            flat[name] = jnp.asarray(table, flat[name].dtype)
        print(coverage(path, words[4:], frozenset(found.words)), file=sys.stderr, flush=True)
        return unflatten_dict(flat, sep="/")

    def _path(self) -> Path:
        path = Path(self.file)
        if not path.is_absolute() and not path.exists() and "VLM_JAX_DATA" in os.environ:
            return Path(os.environ["VLM_JAX_DATA"]) / path
        return path


def coverage(path: Path, words: tuple[str, ...], covered: frozenset[str]) -> str:
    """One line: how many of the words have a vector, and the first, most frequent ones that have not."""
    missing = [word for word in words if word not in covered]
    known = len(words) - len(missing)
    line = f"{path.name}: vectors of {known:,} of {len(words):,} words ({known / len(words):.1%})"
    return line + (f"; without: {', '.join(missing[:8])} ..." if missing else "")
