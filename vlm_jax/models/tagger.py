"""An encoder of words with a label, or a head and a relation, for every word."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vlm_jax.types import Batch, Features

NEVER = (
    -1e9
)  # the score of a head that cannot be: finite, so that a row of nothing else has a gradient


class Tagger(nn.Module, kw_only=True):
    """p(label | words) of every word.

        batch["text"], batch["characters"] -> text_encoder -> dropout -> linear -> logits

    `reads` are the keys of the batch that the encoder takes.
    """

    num_labels: int
    text_encoder: nn.Module
    reads: tuple[str, ...] = ("text", "characters")
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool) -> Float[Array, "b l k"]:
        x = self.encode(batch, train=train).values
        x = nn.Dropout(self.dropout_rate, broadcast_dims=(1,))(x, deterministic=not train)
        return nn.Dense(self.num_labels, name="linear")(x.astype(jnp.float32))

    def encode(self, batch: Batch, *, train: bool) -> Features:
        return self.text_encoder(*(batch[key] for key in self.reads), train=train)


class Parser(nn.Module, kw_only=True):
    """Scores of the heads of every word, and of the relations to them.

        batch["text"], batch["characters"] -> text_encoder -+- arcs ------> [b l l+1]
                                                            +- relations -> [b l l+1 k]

    Head 0 is the root, head i the i-th word. `arcs` and `relations` are such as layers.biaffine.DeepBiaffine.
    """

    text_encoder: nn.Module
    arcs: nn.Module
    relations: nn.Module
    reads: tuple[str, ...] = ("text", "characters")

    @property
    def num_relations(self) -> int:
        return self.relations.num_outputs

    def __call__(
        self, batch: Batch, *, train: bool
    ) -> tuple[Float[Array, "b l n"], Float[Array, "b l k"]]:
        """Scores of all heads, and of the relations to the heads in batch["head"] (the root, where that is -1)."""
        features = self.encode(batch, train=train)
        heads = jnp.maximum(batch["head"], 0)
        relations = self.relations.at(features.values, heads, train=train)
        return self._arcs(features, train), relations

    def every_pair(self, batch: Batch) -> tuple[Float[Array, "b l n"], Int[Array, "b l n k"]]:
        """Scores of all heads, and of the relations to each of them."""
        features = self.encode(batch, train=False)
        return self._arcs(features, False), self.relations(features.values, train=False)

    def encode(self, batch: Batch, *, train: bool) -> Features:
        return self.text_encoder(*(batch[key] for key in self.reads), train=train)

    def _arcs(self, features: Features, train: bool) -> Float[Array, "b l n"]:
        """Padding is no head, and no word its own."""
        scores = self.arcs(features.values, train=train)[..., 0].astype(jnp.float32)
        mask = jnp.pad(features.mask, ((0, 0), (1, 0)), constant_values=True)  # the root first
        length = scores.shape[1]
        itself = jnp.eye(length, length + 1, k=1, dtype=bool)
        return jnp.where(mask[:, None] & ~itself, scores, NEVER)
