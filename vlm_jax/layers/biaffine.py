"""Scores of pairs of words (Dozat and Manning 2017, arXiv 1611.01734, section 3.1)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class DeepBiaffine(nn.Module, kw_only=True):
    """`num_outputs` scores of every word with every head, the root first: [b l d] -> [b l l+1 k].

        s = [d; 1]' U [h; 1],    d = MLP_dep(x),  h = MLP_head(x),  and a learned vector for the head of the root

    This is the paper's bilinear term with the linear ones (eq. 2, 3); where the head is to be chosen, what depends on
    the dependent alone is the same for all heads and does nothing. The MLPs (eq. 4, 5) have one layer.
    """

    hidden: int
    num_outputs: int = 1
    dropout_rate: float = 0.0

    def setup(self):
        self.dependent_layer = nn.Dense(self.hidden)
        self.head_layer = nn.Dense(self.hidden)
        self.root = self.param("root", nn.initializers.normal(0.1), (self.hidden,))
        width = self.hidden + 1
        self.kernel = self.param("kernel", nn.initializers.zeros, (width, self.num_outputs, width))
        # One mask for all words of a sentence, as in the paper's recurrent layers.
        self.dropout = nn.Dropout(self.dropout_rate, broadcast_dims=(1,))

    def __call__(self, x: Float[Array, "b l d"], *, train: bool) -> Float[Array, "b l n k"]:
        dependents, heads = self._sides(x, train)
        return jnp.einsum("blke,bne->blnk", self._products(dependents), heads)

    def at(
        self, x: Float[Array, "b l d"], heads: Int[Array, "b l"], *, train: bool
    ) -> Float[Array, "b l k"]:
        """The scores of each word with one head alone: 0 the root, 1 the first word."""
        dependents, sides = self._sides(x, train)
        chosen = jnp.take_along_axis(sides, heads[..., None], axis=1)
        return jnp.einsum("blke,ble->blk", self._products(dependents), chosen)

    def _sides(self, x, train):
        dependents, heads = (
            self.dropout(nn.leaky_relu(layer(x), 0.1), deterministic=not train)
            for layer in (self.dependent_layer, self.head_layer)
        )
        root = jnp.broadcast_to(self.root, (len(x), 1, self.hidden))
        heads = jnp.concatenate([root, heads], axis=1)
        return _with_one(dependents), _with_one(heads)

    def _products(self, dependents):
        return jnp.einsum("bld,dke->blke", dependents, self.kernel)


def _with_one(x: Float[Array, "b n d"]) -> Float[Array, "b n e"]:
    return jnp.pad(x, ((0, 0), (0, 0), (0, 1)), constant_values=1)
