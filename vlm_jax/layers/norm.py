"""Choices of normalisation. A norm is a description: called in a compact method, it adds its layer.

    y = self.norm(x, train=train, dtype=self.dtype, name="stem_norm")

The parameters (scale, bias) and the batch statistics stay float32 whatever the compute dtype.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Initializer = Callable[..., Array]


class Norm(Protocol):
    """Anything of this form serves as a `norm` field."""

    def __call__(
        self,
        x: Float[Array, "b *n d"],
        *,
        train: bool,
        dtype: Any = None,
        name: str | None = None,
        scale_init: Initializer = nn.initializers.ones,
    ) -> Float[Array, "b *n d"]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNorm:
    """Ioffe and Szegedy 2015. Statistics over all axes but the last.

    `momentum` is the share of the old value that is kept: 0.9 here is 0.1 in torch.
    Where a mapped axis called `axis_name` is in scope (pmap, vmap), statistics are taken over it
    too; under a mesh they are global anyway.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = "data"
    affine: ClassVar[bool] = True

    def __call__(self, x, *, train, dtype=None, name=None, scale_init=nn.initializers.ones):
        layer = nn.BatchNorm(
            momentum=self.momentum,
            epsilon=self.epsilon,
            axis_name=self.axis_name if is_mapped(self.axis_name) else None,
            use_running_average=not train,
            # E[x^2] - E[x]^2 loses every digit where the mean is large against the deviation.
            use_fast_variance=False,
            use_scale=self.affine,
            use_bias=self.affine,
            dtype=dtype,
            scale_init=scale_init,
            name=name,
        )
        return layer(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainBatchNorm(BatchNorm):
    """BatchNorm without scale and bias: what follows brings them, as in FiLM."""

    affine: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrozenBatchNorm:
    """BatchNorm whose statistics are used, and never updated, in training too.

    Its variables are BatchNorm's, so that weights trained with one load into the other. Scale and
    bias remain parameters; an optimizer that should leave them alone must be told so.
    """

    epsilon: float = 1e-5

    def __call__(self, x, *, train, dtype=None, name=None, scale_init=nn.initializers.ones):
        norm = BatchNorm(epsilon=self.epsilon)
        return norm(x, train=False, dtype=dtype, name=name, scale_init=scale_init)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupNorm:
    """Wu and He 2018: statistics over the positions and the channels of one group of one example."""

    num_groups: int = 32
    epsilon: float = 1e-5

    def __call__(self, x, *, train, dtype=None, name=None, scale_init=nn.initializers.ones):
        if x.shape[-1] % self.num_groups:
            raise ValueError(
                f"GroupNorm(num_groups={self.num_groups}) was given {x.shape[-1]} channels; "
                "the number of groups must divide the number of channels."
            )
        layer = nn.GroupNorm(
            num_groups=self.num_groups,
            epsilon=self.epsilon,
            dtype=dtype,
            scale_init=scale_init,
            name=name,
        )
        return layer(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerNorm:
    """Ba et al. 2016: statistics over the last axis."""

    epsilon: float = 1e-6

    def __call__(self, x, *, train, dtype=None, name=None, scale_init=nn.initializers.ones):
        return nn.LayerNorm(epsilon=self.epsilon, dtype=dtype, scale_init=scale_init, name=name)(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainLayerNorm:
    """LayerNorm without scale and bias: what follows brings them, as in adaLN."""

    epsilon: float = 1e-6

    def __call__(self, x, *, train, dtype=None, name=None, scale_init=nn.initializers.ones):
        fields = {"epsilon": self.epsilon, "use_scale": False, "use_bias": False, "dtype": dtype}
        return nn.LayerNorm(**fields, name=name)(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RMSNorm:
    """Zhang and Sennrich 2019: x / sqrt(mean(x^2)) over the last axis, times a scale. With an `offset` of 1 the scale is
    kept as its difference from 1, as Gemma's is: decay then draws it to 1."""

    epsilon: float = 1e-6
    offset: float = 0.0

    def __call__(self, x, *, train, dtype=None, name=None, scale_init=nn.initializers.ones):
        if self.offset:
            return _OffsetRMSNorm(self.epsilon, self.offset, dtype, scale_init, name=name)(x)
        return nn.RMSNorm(epsilon=self.epsilon, dtype=dtype, scale_init=scale_init, name=name)(x)


class _OffsetRMSNorm(nn.Module):
    epsilon: float
    offset: float
    dtype: Any
    scale_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        def init(*arguments):
            return self.scale_init(*arguments) - self.offset

        scale = self.param("scale", init, x.shape[-1:], jnp.float32)
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.epsilon)
        return (y * (self.offset + scale)).astype(self.dtype or x.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitNorm:
    """x / |x| over the last axis: L2 normalisation. No parameters."""

    epsilon: float = 1e-12

    def __call__(self, x, *, train, dtype=None, name=None, scale_init=nn.initializers.ones):
        squared = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
        return (x * jax.lax.rsqrt(jnp.maximum(squared, self.epsilon))).astype(dtype or x.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoNorm:
    """x itself. Convolutions before it carry a bias of their own, as with a folded BatchNorm."""

    def __call__(self, x, *, train, dtype=None, name=None, scale_init=nn.initializers.ones):
        return x


def is_mapped(axis_name: str | None) -> bool:
    try:
        jax.lax.axis_index(axis_name)
    except (NameError, ValueError, TypeError):
        return False
    return axis_name is not None
