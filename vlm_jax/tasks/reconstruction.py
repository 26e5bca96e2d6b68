"""Pictures made again of their codes: what an image tokenizer is trained on."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.metrics.base import Mean, Metric, stats_of
from vlm_jax.tasks.base import Aux, Measured
from vlm_jax.tasks.frozen import frozen
from vlm_jax.tasks.painting import as_bytes, shown
from vlm_jax.types import Array, Batch, References, Variables


@flax.struct.dataclass
class RoundTrips:
    """Pictures there and back."""

    images: Array  # Float[b h w c] in [0, 1]
    codes: Array  # Int[b n]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Perceptual:
    """The mean squared distance of two pictures in the features of a frozen network (Johnson et al. 2016, eq. 2).

    `encoder(image, train=False) -> Features` sees pictures on the scale of batch["image"]; `init_params(variables) ->
    variables` gives it its weights, as in `data.encoded.Encoded`; None leaves those of `encoder.init`, key 0.
    """

    encoder: Any
    init_params: Callable[[Any], Any] | None = None

    def __call__(self, image: Array, other: Array) -> Array:
        """Float[b]; no gradient into the first picture, nor into the network."""
        variables = _frozen(self.encoder, self.init_params, image.shape[1:])
        gold, ours = (
            self.encoder.apply(variables, each, train=False)
            for each in (jax.lax.stop_gradient(image), other)
        )
        error = jnp.where(gold.mask[..., None], jnp.square(gold.values - ours.values), 0.0)
        places = jnp.maximum(gold.mask.sum(1), 1) * error.shape[-1]
        return error.sum((1, 2)) / places


@functools.lru_cache(maxsize=4)
def _frozen(encoder: Any, init_params: Callable | None, shape: tuple[int, ...]) -> Any:
    example = jnp.zeros((1, *shape))
    return frozen(lambda: encoder.init(jax.random.key(0), example, train=False), init_params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruction(Measured):
    """Minimises the mean squared error of batch["image"], a valid row each, and what the model sows in "losses".

    "loss" is the squared error alone, on the scale of batch["image"], whose pixels were (x - `mean`) / `std` of numbers
    in [0, 1]. With `perceptual` its distance, times `perceptual_weight`, is minimised too. A metric reads pictures as
    uint8, and the reference "picture", or `references[id]`; of the reference "codes", the codes.
    """

    metrics: tuple[Metric, ...] = ()
    mean: float = 0.5
    std: float = 0.5
    perceptual: Perceptual | None = None
    perceptual_weight: float = 1.0

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        state = [name for name in variables if name != "params"] if train else []
        found, updated = model.apply(
            variables, batch, train=train, rngs=rngs, mutable=[*state, "losses"]
        )
        valid = batch["valid"]
        error = jnp.square(found.images - batch["image"]).mean((1, 2, 3))
        metrics = {"loss": Mean.of(error, valid)}
        minimised = error
        for sown in jax.tree.leaves(updated.pop("losses", {})):
            metrics["commitment"] = Mean.of(sown, valid)
            minimised += sown
        if self.perceptual is not None:
            distance = self.perceptual(batch["image"], found.images)
            metrics["perceptual"] = Mean.of(distance, valid)
            minimised += self.perceptual_weight * distance
        count = jnp.maximum(valid.sum(), 1).astype(jnp.float32)
        return jnp.where(valid, minimised, 0.0).sum() / count, Aux(metrics, updated)

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> RoundTrips:
        found = model.apply(variables, batch, train=False)
        return RoundTrips(images=shown(found.images, self.mean, self.std), codes=found.codes)

    def examples(self, predictions: RoundTrips, batch: Batch) -> list[dict[str, Any]]:
        """`picture` as it was, `prediction` as it came back, uint8 [h w c], and its `codes`, of the valid rows."""
        before = np.asarray(shown(batch["image"], self.mean, self.std))
        return [
            {
                "id": int(batch["id"][row]),
                "picture": as_bytes(before[row]),
                "prediction": as_bytes(np.asarray(predictions.images[row])),
                "codes": np.asarray(predictions.codes[row]),
            }
            for row in np.flatnonzero(np.asarray(batch["valid"]))
        ]

    def score(
        self, predictions: RoundTrips, batch: Batch, references: References
    ) -> dict[str, Any]:
        def against_gold(example):
            gold = {**references.get(example["id"], {}), "picture": (example["picture"],)}

            def stats(metric):
                if metric.reference == "codes":
                    return metric.stats(example["codes"])
                return stats_of(metric, example["prediction"], gold)

            return stats

        return self.added(against_gold(each) for each in self.examples(predictions, batch))
