"""Which of several pictures of one prompt is the best."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vlm_jax.tasks.base import softmax_cross_entropy
from vlm_jax.tasks.frozen import frozen
from vlm_jax.types import PAD, Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionLikelihood:
    """log p(prompt | picture) of a captioner that has been trained before, in nats (Ding et al. 2021, CogView, arXiv
    2105.13290, section 3.2; DALL-E and Parti take a contrastive model).

    `captioner` is a `Generator` that reads batch["image"] on the scale of the painter's batches and writes the words of
    the painter's prompts, the same tokens. `init_params(variables) -> variables` gives it its weights, as in
    `data.encoded.Encoded`; None leaves those of its `init`, key 0.
    """

    captioner: Any
    init_params: Callable[[Any], Any] | None = None

    def signature(self) -> str:
        """Whose eyes they are, for result files."""
        return f"ranking:{Path(getattr(self.init_params, 'workdir', 'drawn')).name}"

    def __call__(self, image: Array, text: Array) -> Array:
        """Float[b] of pictures [b h w c] and prompts [b l] = BOS, words, EOS, PAD ...; words and EOS are counted."""
        variables = _variables(self.captioner, self.init_params, image.shape[1:])
        batch = {"image": image, "target": text[:, :-1]}
        logits = self.captioner.apply(variables, batch, train=False)
        labels = text[:, 1:]
        return -jnp.where(labels != PAD, softmax_cross_entropy(logits, labels), 0.0).sum(1)


@functools.lru_cache(maxsize=4)
def _variables(captioner: Any, init_params: Callable | None, shape: tuple[int, ...]) -> Any:
    batch = {"image": jnp.zeros((1, *shape)), "target": jnp.zeros((1, 2), jnp.int32)}
    return frozen(lambda: captioner.init(jax.random.key(0), batch, train=False), init_params)
