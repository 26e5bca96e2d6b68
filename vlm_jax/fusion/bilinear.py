"""Every feature of the image times every feature of the text, in forms that can be afforded.

Each works at every text position, on the image pooled to one vector x and the text's vector y there, and gives
[b l width]. A full bilinear layer, z_k = x' W_k y, would have a matrix for each of its outputs.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vlm_jax.layers.norm import UnitNorm
from vlm_jax.layers.pooling import cleared, pool
from vlm_jax.types import Features


class Mlb(nn.Module, kw_only=True):
    """z = P' (tanh(U' x) * tanh(V' y)) + b, with `hidden` products: Kim et al. 2017 (arXiv 1610.04325, section 3).

    U and V have biases here; at an `image_bias` of 1 the products start out as the text's, scaled.
    """

    hidden: int
    width: int
    image_bias: float = 0.0  # what U's starts from
    dropout_rate: float = 0.0  # of the products
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        x, y = _picture_and_words(image, text, self.dtype)
        bias_init = nn.initializers.constant(self.image_bias)
        x = nn.Dense(self.hidden, bias_init=bias_init, dtype=self.dtype, name="image")(x)
        y = nn.Dense(self.hidden, dtype=self.dtype, name="text")(y)
        x, y = jnp.tanh(x), jnp.tanh(y)
        z = nn.Dropout(self.dropout_rate)(x * y, deterministic=not train)
        z = nn.Dense(self.width, dtype=self.dtype, name="output")(z)
        return Features(values=z, mask=text.mask)


class Mutan(nn.Module, kw_only=True):
    """A Tucker decomposition with a core of `rank`: Ben-younes et al. 2017 (arXiv 1705.06676, section 3.2 and 3.3).

    x~ = tanh(W_v' x)    y~ = tanh(W_q' y)    z = sum_r (x~' N_r) * (y~' M_r)    r = 1 .. rank
    """

    image_width: int
    text_width: int
    width: int
    rank: int
    dropout_rate: float = 0.0  # of x~ and y~
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        x, y = _picture_and_words(image, text, self.dtype)

        def factor(x, width, name):
            x = jnp.tanh(nn.Dense(width, dtype=self.dtype, name=name)(x))
            x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
            shape = (self.rank, self.width)
            return nn.DenseGeneral(shape, use_bias=False, dtype=self.dtype, name=f"{name}_core")(x)

        z = factor(x, self.image_width, "image") * factor(y, self.text_width, "text")
        return Features(values=z.sum(axis=-2), mask=text.mask)


class Mcb(nn.Module, kw_only=True):
    """The outer product of x and y, hashed to `width` numbers: Fukui et al. 2016 (arXiv 1606.01847, section 3.1).

        psi(x)_j = sum of s_i x_i over the i with h_i = j       z = psi(x) convolved with psi(y), round a circle
                                                                  = irfft(rfft(psi(x)) * rfft(psi(y)))

    then the signed square root, divided by its length. It has no parameters: places h and signs s are drawn once, for
    the image and for the text each, from `seed`.
    """

    width: int
    seed: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        x, y = _picture_and_words(image, text, jnp.float32)  # a transform knows no bfloat16
        places, signs = hashes(x.shape[-1], self.width, seed=2 * self.seed)
        x = count_sketch(x, places, signs, self.width)
        places, signs = hashes(y.shape[-1], self.width, seed=2 * self.seed + 1)
        y = count_sketch(y, places, signs, self.width)
        z = circular_convolution(x, y)
        z = UnitNorm()(signed_sqrt(z), train=train, dtype=self.dtype)
        return Features(values=z, mask=text.mask)


class Mfb(nn.Module, kw_only=True):
    """z_k = sum_f (U' x * V' y)_kf over `num_factors` factors f: Yu et al. 2017 (arXiv 1708.01471, section 3).

    Then power normalisation, the signed square root, and division by the length. U and V have no bias.
    """

    width: int
    num_factors: int = 5
    dropout_rate: float = 0.0  # of the products, before they are added
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        x, y = _picture_and_words(image, text, self.dtype)
        shape = (self.width, self.num_factors)
        x = nn.DenseGeneral(shape, use_bias=False, dtype=self.dtype, name="image")(x)
        y = nn.DenseGeneral(shape, use_bias=False, dtype=self.dtype, name="text")(y)
        z = nn.Dropout(self.dropout_rate)(x * y, deterministic=not train).sum(axis=-1)
        z = UnitNorm()(signed_sqrt(z), train=train, dtype=self.dtype)
        return Features(values=z, mask=text.mask)


# ---- the parts


def signed_sqrt(x: Float[Array, "*n"], epsilon: float = 1e-6) -> Float[Array, "*n"]:
    """sign(x) sqrt(|x|), to within `epsilon`: x / sqrt(|x| + epsilon), whose slope at 0 is finite."""
    return x / jnp.sqrt(jnp.abs(x) + epsilon)


def hashes(num_features: int, width: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Int[n], a place below `width` for each feature, and its sign, 1 or -1: Float[n]."""
    # RandomState, whose numbers are the same for ever: a checkpoint does not hold them.
    rng = np.random.RandomState(seed)
    return rng.randint(width, size=num_features), rng.choice([-1.0, 1.0], size=num_features)


def count_sketch(
    x: Float[Array, "*b n"], places: np.ndarray, signs: np.ndarray, width: int
) -> Float[Array, "*b w"]:
    """Each feature, with its sign, added at its place.

    `[1, 2, 3], places [2, 0, 2], signs [1, 1, -1], width 4 -> [2, 0, -2, 0]`
    """
    zeros = jnp.zeros((*x.shape[:-1], width), x.dtype)
    return zeros.at[..., places].add(x * signs.astype(x.dtype))


def circular_convolution(
    x: Float[Array, "*#b w"], y: Float[Array, "*#b w"]
) -> Float[Array, "*b w"]:
    """z_k = sum_i x_i y_(k-i), places counted round a circle. `[1, 2, 0] and [0, 1, 1] -> [2, 1, 3]`"""
    return jnp.fft.irfft(jnp.fft.rfft(x) * jnp.fft.rfft(y), n=x.shape[-1])


def _picture_and_words(image: Features, text: Features, dtype: Any) -> tuple[Array, Array]:
    """[b 1 d] and [b l e]."""
    return pool(image)[:, None].astype(dtype), cleared(text).astype(dtype)
