"""GloVe: vectors whose products are the logarithms of how often words stand near each other."""

import flax.linen as nn
from jaxtyping import Array, Float

from vlm_jax.language.embeddings import Embedding
from vlm_jax.types import Batch


class GloVe(nn.Module, kw_only=True):
    """w_i . c_j + b_i + b'_j for batch["word"] i and batch["context"] j, both Int[b] (Pennington et al. 2014, eq. 7).

    The vector of a word is w + c, as in the paper's section 4.2. All begin uniform in (-0.5, 0.5) / width in the
    authors' code, here normal with that deviation; the biases are a column of the tables.
    """

    vocab_size: int
    width: int

    def setup(self):
        size = dict(vocab_size=self.vocab_size, width=self.width + 1, stddev=12**-0.5 / self.width)
        self.embedding, self.output = Embedding(**size), Embedding(**size)

    def __call__(self, batch: Batch, *, train: bool) -> Float[Array, "b"]:
        word, context = self.embedding(batch["word"]), self.output(batch["context"])
        products = (word[:, :-1] * context[:, :-1]).sum(-1)
        return products + word[:, -1] + context[:, -1]

    def vectors(self) -> Float[Array, "v d"]:
        return self.embedding.table[:, :-1] + self.output.table[:, :-1]
