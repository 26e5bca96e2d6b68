"""Optimizers and learning-rate schedules as frozen dataclasses; `build()` gives the Optax transformation.

The order is the one of Optax and PyTorch: clip the gradient by its global norm, add L2 (Sgd, Adam) or let it be,
the optimizer's rule, decoupled decay (AdamW, Lion), times minus the learning rate.
Moments and averages are float32 whatever the parameters are.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from vlm_jax.train.rules import matched, matches
from vlm_jax.train.state import float32, named_leaves, path_name
from vlm_jax.types import Array

# Biases, norm scales, embeddings and positions are not decayed unless an experiment says otherwise.
NO_DECAY = (r"(^|/)(\w*bias|scale|embedding|table|digit_\d+|positions|class_token)$",)


# ---- schedules: step -> learning rate, traced. The first update uses step 0.


class Schedule:
    """A frozen dataclass called with the step; all are defined for every step >= 0."""

    def __call__(self, step: Array) -> Array:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    value: float

    def __call__(self, step):
        return jnp.full((), self.value, jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(Schedule):
    """From `start` at step 0 to `end` at step `num_steps`, then `end`."""

    start: float
    end: float = 0.0
    num_steps: int

    def __call__(self, step):
        done = jnp.clip(step / self.num_steps, 0.0, 1.0)
        return self.start + (self.end - self.start) * done


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """`end + (peak - end) (1 + cos(pi step / num_steps)) / 2` (Loshchilov and Hutter 2017, eq. 5, one period)."""

    peak: float
    end: float = 0.0
    num_steps: int

    def __call__(self, step):
        done = jnp.clip(step / self.num_steps, 0.0, 1.0)
        return self.end + (self.peak - self.end) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmupCosine(Schedule):
    """Linear from 0 to `peak` at step `warmup_steps`, then a cosine to `end` at step `num_steps`."""

    peak: float
    end: float = 0.0
    warmup_steps: int
    num_steps: int

    def __call__(self, step):
        warm = self.peak * step / max(self.warmup_steps, 1)
        span = max(self.num_steps - self.warmup_steps, 1)
        done = jnp.clip((step - self.warmup_steps) / span, 0.0, 1.0)
        cosine = self.end + (self.peak - self.end) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))
        return jnp.where(step < self.warmup_steps, warm, cosine)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmupLinear(Schedule):
    """Linear from 0 to `peak` at step `warmup_steps`, then linear to `end` at step `num_steps`."""

    peak: float
    end: float = 0.0
    warmup_steps: int
    num_steps: int

    def __call__(self, step):
        warm = self.peak * step / max(self.warmup_steps, 1)
        span = max(self.num_steps - self.warmup_steps, 1)
        done = jnp.clip((step - self.warmup_steps) / span, 0.0, 1.0)
        return jnp.where(step < self.warmup_steps, warm, self.peak + (self.end - self.peak) * done)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InverseSqrt(Schedule):
    """Linear to `peak` at step `warmup_steps`, then `peak sqrt(warmup_steps / step)`."""

    peak: float
    warmup_steps: int

    def __call__(self, step):
        warmup = max(self.warmup_steps, 1)
        return self.peak * jnp.minimum(step / warmup, jnp.sqrt(warmup / jnp.maximum(step, 1)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noam(Schedule):
    """`scale width^-0.5 min(n^-0.5, n warmup_steps^-1.5)` (Vaswani et al. 2017, eq. 3), where n = step + 1
    because the paper counts from 1."""

    width: int
    warmup_steps: int = 4000
    scale: float = 1.0

    def __call__(self, step):
        n = jnp.asarray(step + 1, jnp.float32)
        return self.scale * self.width**-0.5 * jnp.minimum(n**-0.5, n * self.warmup_steps**-1.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepDecay(Schedule):
    """`start factor^i`, where i is the number of `boundaries` <= step; before step `warmup_steps`, `warmup`."""

    start: float
    factor: float = 0.1
    boundaries: tuple[int, ...]
    warmup: float = 0.0
    warmup_steps: int = 0

    def __call__(self, step):
        passed = sum((step >= boundary) * 1.0 for boundary in self.boundaries)
        rate = self.start * jnp.float32(self.factor) ** passed
        return jnp.where(step < self.warmup_steps, jnp.float32(self.warmup), rate)


# ---- optimizers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What all optimizers share. Path rules are regular expressions searched in 'decoder/Dense_0/kernel'."""

    learning_rate: float | Schedule
    clip_norm: float | None = None  # largest global norm of the gradient of all trained parameters
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = NO_DECAY  # rules for the parameters that are not decayed
    frozen: tuple[
        str, ...
    ] = ()  # rules for the parameters that never change, nor decay, nor have moments
    rates: tuple[
        tuple[str, float], ...
    ] = ()  # (rule, factor of the learning rate); first match wins
    ema_decay: float | None = (
        None  # keep a mean of the params, those of k steps ago with the weight decay^k; evaluation uses it
    )
    accumulate: int = 1  # micro-batches a step; the update is the one of the whole batch
    max_norm: float | None = None  # of the weights that enter one output unit, after every update
    max_norm_of: tuple[str, ...] = ()  # rules for the kernels that this holds for

    decoupled: ClassVar[bool] = (
        False  # whether decay is added after the rule (AdamW) or before it (L2)
    )

    def rule(self) -> optax.GradientTransformation:
        """The scaling of the gradient, without learning rate and sign."""
        raise NotImplementedError

    def schedule(self, step: Array) -> Array:
        """The learning rate of the update that takes `step` to `step + 1`."""
        if isinstance(self.learning_rate, Schedule):
            return self.learning_rate(step)
        return jnp.full((), self.learning_rate, jnp.float32)

    def trainable(self, params: Any) -> Any:
        """The tree of `params` with True where a leaf is trained. Raises for a rule that freezes nothing."""
        if not self.frozen:
            return jax.tree.map(lambda _: True, params)
        frozen = matches(self.frozen, params, what="Optimizer.frozen")
        if all(jax.tree.leaves(frozen)):
            raise ValueError(
                f"Optimizer.frozen {self.frozen} freezes every parameter; none is trained"
            )
        return jax.tree.map(lambda matched: not matched, frozen)

    def decayed(self, params: Any) -> Any:
        """The tree of `params` with True where weight decay acts."""
        checked = self.no_decay != NO_DECAY  # the default may find nothing to spare
        spared = matches(self.no_decay, params, what="Optimizer.no_decay" if checked else None)
        return jax.tree.map(lambda matched: not matched, spared)

    def build(self) -> optax.GradientTransformation:
        """The Optax transformation; its `init` checks the path rules against the parameters."""
        decay = optax.add_decayed_weights(self.weight_decay, mask=self.decayed)
        parts = [
            optax.clip_by_global_norm(self.clip_norm) if self.clip_norm is not None else None,
            decay if self.weight_decay and not self.decoupled else None,
            self.rule(),
            decay if self.weight_decay and self.decoupled else None,
            optax.scale_by_learning_rate(self.schedule),
            _scale_by_rule(self.rates) if self.rates else None,
            _keep_max_norm(self.max_norm, self.max_norm_of) if self.max_norm is not None else None,
        ]
        chain = optax.chain(*(part for part in parts if part is not None))
        if self.frozen:
            chain = optax.partition(
                {True: chain, False: optax.set_to_zero()}, lambda params: self.trainable(params)
            )
        return _in_float32(chain)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sgd(Optimizer):
    """Stochastic gradient descent; with `momentum`, v = momentum v + g, and the update is -rate v."""

    momentum: float | None = None
    nesterov: bool = False

    def rule(self):
        if self.momentum is None:
            return optax.identity()
        return optax.trace(self.momentum, nesterov=self.nesterov)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowClippedSgd(Optimizer):
    """Stochastic gradient descent in which the gradient of each row of a table is at most `row_norm` long.

    For word vectors in large batches: a rare word moves as far as in updates of one pair each, and a frequent one, whose
    gradients were all taken at the same place, not as far as their sum.
    """

    row_norm: float

    def rule(self):
        def shortened(gradient):
            norm = jnp.sqrt((gradient**2).sum(-1, keepdims=True))
            return gradient * jnp.minimum(1.0, self.row_norm / jnp.maximum(norm, 1e-20))

        return optax.stateless(lambda updates, params: jax.tree.map(shortened, updates))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Kingma and Ba 2015, algorithm 1. `weight_decay` is L2 added to the gradient; see AdamW."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def rule(self):
        return optax.scale_by_adam(self.beta1, self.beta2, self.epsilon)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2): rate * weight_decay * params."""

    weight_decay: float = 0.01
    decoupled: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaGrad(Optimizer):
    """Duchi et al. 2011: g / sqrt(`initial` + sum of g^2), from the first gradient on."""

    initial: float = 1e-8

    def rule(self):
        return optax.scale_by_rss(self.initial, eps=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RmsProp(Optimizer):
    """Tieleman and Hinton 2012: g / sqrt(average of g^2), epsilon inside the root."""

    decay: float = 0.9
    epsilon: float = 1e-8
    momentum: float | None = None

    def rule(self):
        scale = optax.scale_by_rms(self.decay, self.epsilon, eps_in_sqrt=True)
        return scale if self.momentum is None else optax.chain(scale, optax.trace(self.momentum))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lion(Optimizer):
    """Chen et al. 2023, algorithm 2: the sign of an interpolated momentum, decoupled decay."""

    beta1: float = 0.9
    beta2: float = 0.99
    decoupled: ClassVar[bool] = True

    def rule(self):
        return optax.scale_by_lion(self.beta1, self.beta2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adafactor(Optimizer):
    """Shazeer and Stern 2018 with a given learning rate: factored second moments, updates clipped at RMS
    `clipping_threshold`, no momentum."""

    decay_rate: float = 0.8
    epsilon: float = 1e-30
    clipping_threshold: float = 1.0
    min_dim_size_to_factor: int = 128

    def rule(self):
        return optax.chain(
            optax.scale_by_factored_rms(
                min_dim_size_to_factor=self.min_dim_size_to_factor,
                decay_rate=self.decay_rate,
                epsilon=self.epsilon,
            ),
            optax.clip_by_block_rms(self.clipping_threshold),
        )


# ---- parts


def _scale_by_rule(rates: tuple[tuple[str, float], ...]) -> optax.GradientTransformation:
    """Multiplies an update, decay included, by the factor of the first rule that is found in its path."""
    rules, factors = tuple(rule for rule, _ in rates), tuple(factor for _, factor in rates)

    def init(params):
        found = matched(rules, named_leaves(params), what="Optimizer.rates")
        for index, rule in enumerate(rules):
            if index not in found.values():
                raise ValueError(
                    f"Optimizer.rates: the rule {rule!r} matches only parameters that an earlier rule has; the first "
                    "match wins, so put the narrower rule first"
                )
        return optax.EmptyState()

    def update(updates, state, params=None):
        found = matched(rules, named_leaves(updates), what=None)

        def scaled(path, update):
            index = found.get(path_name(path))
            return update if index is None else factors[index] * update

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)


def _keep_max_norm(limit: float, rules: tuple[str, ...]) -> optax.GradientTransformation:
    """Shortens, after the update, the columns of a kernel [... d_out] that are longer than `limit` (Hinton et al. 2012,
    arXiv 1207.0580)."""

    def init(params):
        matches(rules, params, what="Optimizer.max_norm_of")
        return optax.EmptyState()

    def update(updates, state, params):
        def shortened(update, param, held):
            if not held:
                return update
            new = param + update
            norm = jnp.sqrt((new**2).sum(axis=tuple(range(new.ndim - 1)), keepdims=True))
            return new * jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12)) - param

        held = matches(rules, params, what=None)
        return jax.tree.map(shortened, updates, params, held), state

    return optax.GradientTransformation(init, update)


def _in_float32(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner` with float32 moments and arithmetic, whatever the dtype of parameters and gradients."""

    def update(updates, state, params=None):
        return inner.update(float32(updates), state, None if params is None else float32(params))

    return optax.GradientTransformation(lambda params: inner.init(float32(params)), update)
