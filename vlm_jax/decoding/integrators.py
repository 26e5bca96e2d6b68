"""Velocity function -> what stands at the end of its path: dx/dt = velocity(x, t), followed from t = 0 to t = 1.

    pictures = Heun(num_steps=16)(velocity, noise)

An integrator is a frozen dataclass, traced when called. `velocity(x, t)` is given x, Float[b ...], and the time as a
scalar, and returns what x has. At 0 there is noise, at 1 a picture, as in Liu et al. 2023 (arXiv 2209.03003).
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from jax import lax

from vlm_jax.types import Array

Velocity = Callable[[Array, Array], Array]


class Integrator(Protocol):
    num_steps: int

    @property
    def num_evaluations(self) -> int:
        """How often the velocity is asked for."""
        ...

    def __call__(self, velocity: Velocity, x: Array) -> Array: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Euler:
    """x <- x + h velocity(x, t): of order 1, and exact where the velocity is constant along the path."""

    num_steps: int = 32
    shift: float = 1.0  # more than 1: more of the steps where there is mostly noise

    def __post_init__(self):
        _check(self)

    @property
    def num_evaluations(self) -> int:
        return self.num_steps

    def __call__(self, velocity: Velocity, x: Array) -> Array:
        def step(x, start, end):
            return x + (end - start) * velocity(x, start)

        return _follow(step, x, times(self.num_steps, self.shift))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heun:
    """The mean of the velocities at both ends of Euler's step: of order 2, and exact where the velocity is linear in
    time. Two evaluations a step, in the last one too: a flow has a velocity at t = 1."""

    num_steps: int = 16
    shift: float = 1.0

    def __post_init__(self):
        _check(self)

    @property
    def num_evaluations(self) -> int:
        return 2 * self.num_steps

    def __call__(self, velocity: Velocity, x: Array) -> Array:
        def step(x, start, end):
            before = velocity(x, start)
            after = velocity(x + (end - start) * before, end)
            return x + (end - start) * (before + after) / 2

        return _follow(step, x, times(self.num_steps, self.shift))


def times(num_steps: int, shift: float = 1.0) -> np.ndarray:
    """Float32[num_steps + 1] from 0 to 1, both exactly.

    Even steps of s = 1 - t, the share of the noise, become shift s / (1 + (shift - 1) s) (Esser et al. 2024, arXiv
    2403.03206, eq. 23): two steps with shift 3 -> [0, 0.25, 1].
    """
    noise = np.linspace(1.0, 0.0, num_steps + 1)
    noise = shift * noise / (1.0 + (shift - 1.0) * noise)
    return (1.0 - noise).astype(np.float32)


def _follow(step: Callable[[Array, Array, Array], Array], x: Array, grid: np.ndarray) -> Array:
    def body(x, ends):
        return step(x, *ends), None

    return lax.scan(body, x, (jnp.asarray(grid[:-1]), jnp.asarray(grid[1:])))[0]


def _check(integrator: Integrator) -> None:
    name = type(integrator).__name__
    if integrator.num_steps < 1:
        raise ValueError(
            f"{name}(num_steps={integrator.num_steps}): expected at least 1; try 16 of Heun, 32 of Euler"
        )
    if not integrator.shift > 0:
        raise ValueError(
            f"{name}(shift={integrator.shift}): expected more than 0; 1 for even steps, try 3"
        )
