"""Activations that published weights were trained with, beside those of flax.linen."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float


def exact_gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """x times the normal distribution's function at x, by erf (Hendrycks and Gimpel 2016); nn.gelu has a tanh for it."""
    return nn.gelu(x, approximate=False)


def quick_gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """x sigmoid(1.702 x), the same paper's other approximation, which CLIP uses."""
    return x * jax.nn.sigmoid(1.702 * x)
