"""Making pictures of a prompt: what text to codes and rectified flow share."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.decoding.base import Decoded
from vlm_jax.metrics.base import Metric, stats_of
from vlm_jax.tasks.base import Measured
from vlm_jax.tasks.generation import write
from vlm_jax.types import BOS, EOS, PAD, Array, Batch, Features, References, Variables


class Painted(NamedTuple):
    """What was made of each prompt of a batch."""

    images: Array  # Float[b s h w c] in [0, 1], s samples a prompt
    plans: Array | None = None  # Int[b s m], of a text.scene_plan.ScenePlan, written before them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Painting(Measured):
    """Base of tasks that make pictures of prompts, batch["text"] [b l] = BOS, words, EOS, PAD ...; they add `loss` and
    `predict`, which makes `num_samples` pictures a prompt.

    A picture in a batch, batch["image"] [b h w c], was normalised by the pipeline: (pixel / 255 - mean) / std. The two
    numbers stand here once more, so that `scaled` and `shown` go between that and [0, 1]; `check` refuses a batch that
    contradicts them.

    Of the prompts of training a share of `prompt_dropout` is emptied, so that the model also learns to go without, as
    guidance wants it (Ho and Salimans 2022, arXiv 2207.12598).

    With a `ranking` (ranking.py) of `candidates` pictures the best is shown, for each of the `num_samples`.

    A metric is given one picture, uint8 [h w c], and `references[id][metric.reference]`; of the reference "picture", the
    real one of the batch. With a `plan` (text.scene_plan.ScenePlan), which is written before a picture, `plan_metrics` are given
    what was planned, a Scene or None.
    """

    metrics: tuple[Metric, ...] = ()
    plan: Any = None
    plan_metrics: tuple[Metric, ...] = ()
    prompt_dropout: float = 0.1
    num_samples: int = 1  # a prompt
    ranking: Callable[[Array, Array], Array] | None = None  # (pictures, prompts) -> Float[b]
    candidates: int = 1  # a sample
    mean: float = 0.5
    std: float = 0.5

    def __post_init__(self):
        if not 0.0 <= self.prompt_dropout < 1.0:
            raise ValueError(
                f"prompt_dropout is {self.prompt_dropout}, expected 0 <= prompt_dropout < 1"
            )
        if self.num_samples < 1:
            raise ValueError(f"num_samples is {self.num_samples}, expected at least 1")
        if self.candidates < 1 or (self.candidates > 1 and self.ranking is None):
            raise ValueError(
                f"candidates is {self.candidates} with ranking {self.ranking}; expected 1, or more with a ranking that says "
                "which is the best: ranking.CaptionLikelihood(...)"
            )
        if self.plan is None and self.plan_metrics:
            raise ValueError(
                f"given plan_metrics {self.plan_metrics} without a plan; leave them out, or try plan=ScenePlan()"
            )

    @property
    def num_planned(self) -> int:
        """Tokens of the plan of a picture."""
        return 0 if self.plan is None else self.plan.length

    def named_metrics(self) -> list[tuple[str, Any]]:
        more = [(f"plan {number}", metric) for number, metric in enumerate(self.plan_metrics)]
        return [*super().named_metrics(), *more]

    def shown(self, image: Array) -> Array:
        """[0, 1] of pictures on the scale of the batches; what lies beyond is cut off."""
        return shown(image, self.mean, self.std)

    def scaled(self, image: Array) -> Array:
        """Pictures in [0, 1] on the scale of the batches."""
        return (image - self.mean) / self.std

    @property
    def num_made(self) -> int:
        """Pictures that are made of a prompt, those that are not shown among them."""
        return self.num_samples * self.candidates

    def best(self, made: Painted, batch: Batch) -> Painted:
        """Of `num_made` pictures a prompt the best of each `candidates`: `num_samples` of them, with what belongs to them."""
        if self.candidates == 1:
            return made
        rows, shape = made.images.shape[0], made.images.shape[2:]
        text = jnp.repeat(batch["text"], self.num_made, axis=0)
        scores = self.ranking(self.scaled(made.images.reshape(-1, *shape)), text)
        best = scores.reshape(rows, self.num_samples, self.candidates).argmax(-1)

        def taken(x):
            each = x.reshape(rows, self.num_samples, self.candidates, *x.shape[2:])
            index = best.reshape(*best.shape, *(1,) * (each.ndim - 2))
            return jnp.take_along_axis(each, index, axis=2)[:, :, 0]

        return jax.tree.map(taken, made)

    def with_dropped_prompts(self, batch: Batch, key: jax.Array) -> Batch:
        """The batch with some of its prompts empty, each row by itself. For training; `key` is rngs["noise"], or one
        folded out of it."""
        dropped = self.dropped(batch, key)
        text = jnp.where(dropped[:, None], no_prompt(batch["text"]), batch["text"])
        return {**batch, "text": text}

    def dropped(self, batch: Batch, key: jax.Array) -> Array:
        """Bool[b]: the rows of a batch of training that are to go without a prompt."""
        return jax.random.bernoulli(key, self.prompt_dropout, batch["text"].shape[:1])

    def condition(self, model: Any, variables: Variables, batch: Batch) -> Features:
        """What `model.encode` makes of the prompts, for `predict`. Between two prompts, where the batch has another,
        "text_to" [b l], and the "share" [b] that it has."""

        def encoded(text):
            return model.apply(variables, {**batch, "text": text}, train=False, method="encode")

        memory = encoded(batch["text"])
        if "text_to" not in batch:
            return memory
        return between(memory, encoded(batch["text_to"]), batch["share"])

    def examples(self, predictions: Painted, batch: Batch) -> list[dict[str, Any]]:
        """`pictures`, uint8 [s h w c], their `plans`, Int[s m], where they have any, and where the batch has it `picture`, the
        real one, uint8 [h w c]."""
        made = as_bytes(predictions.images)
        plans = None if predictions.plans is None else np.asarray(predictions.plans)
        real = as_bytes(self.shown(np.asarray(batch["image"]))) if "image" in batch else None
        return [
            {
                "id": int(batch["id"][row]),
                "pictures": made[row],
                **({} if plans is None else {"plans": plans[row]}),
                **({} if real is None else {"picture": real[row]}),
            }
            for row in np.flatnonzero(np.asarray(batch["valid"]))
        ]

    def score(self, predictions: Painted, batch: Batch, references: References) -> dict[str, Any]:
        if not self.named_metrics():  # there may be no references
            return {}

        def of(example, sample, gold):
            return lambda metric: stats_of(metric, self.judged(metric, example, sample), gold)

        return self.added(
            of(example, sample, gold)
            for example, gold in self._with_gold(predictions, batch, references)
            for sample in range(len(example["pictures"]))
        )

    def judged(self, metric: Metric, example: dict[str, Any], sample: int) -> Any:
        """What of an example the metric is given: the picture, or what was planned."""
        if metric in self.plan_metrics:
            return self.plan.decode(example["plans"][sample])
        return example["pictures"][sample]

    def _with_gold(
        self, predictions: Painted, batch: Batch, references: References
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for example in self.examples(predictions, batch):
            real = {"picture": (example["picture"],)} if "picture" in example else {}
            yield example, {**references.get(example["id"], {}), **real}

    def picture_shape(self, model: Any, batch: Batch) -> jax.ShapeDtypeStruct:
        """Of the pictures that the model makes, a row each."""
        return jax.ShapeDtypeStruct(batch["image"].shape, jnp.float32)

    def one_by_one(
        self,
        sampling: Any,
        model: Any,
        variables: Variables,
        memory: Features,
        key: jax.Array,
        **guided: Any,
    ) -> Decoded:
        """`num_made` texts for each row of the memory, written token after token; `guided` are the arguments of
        generation.write for guidance."""
        return write(
            model,
            variables,
            memory,
            dataclasses.replace(sampling, num_results=self.num_made),
            batch_size=memory.mask.shape[0],
            key=key,
            **guided,
        )

    def check_planning(self, planning: Any) -> None:
        """Refuses a plan without a `planning` that writes it, and a planning without a plan."""
        if (self.plan is None) != (planning is None):
            raise ValueError(
                f"{type(self).__name__} was given plan={self.plan} and planning={planning}; expected both, or neither: "
                "planning is what writes the plan, such as Sampling(max_length=plan.length, ...)"
            )

    def check_written(self, planning: Any, first: int) -> None:
        """Refuses a planning that writes anything but the plan, whose tokens go from `first` on."""
        given, expected = planning.stages, (stage_of(self.plan, first),)
        if given != expected:
            raise ValueError(
                f"planning has stages {given}, expected {expected}: the tokens of a plan"
            )
        given = (planning.max_length, planning.min_length)
        if given != (self.num_planned, self.num_planned):
            raise ValueError(
                f"planning has max_length {given[0]} and min_length {given[1]}, expected {self.num_planned} of both, the "
                "tokens of a plan"
            )

    def check(self, model: Any, batch: Batch) -> None:
        if self.ranking is not None:  # what it lacks is said now, and not after the training
            jax.eval_shape(self.ranking, self.picture_shape(model, batch), batch["text"])
        text, ids = np.asarray(batch["text"]), np.asarray(batch["id"])
        unfinished = np.asarray(batch["valid"]) & ~((text == EOS).sum(1) == 1)
        if unfinished.any():
            raise ValueError(
                f"example id {ids[unfinished][0]}: its prompt has not exactly one EOS; tokenize with "
                'vlm_jax.data.text_transforms.Tokenize(key="prompt", output="text")'
            )
        image = np.asarray(batch["image"]) * self.std + self.mean if "image" in batch else None
        if image is not None and not (-1e-3 <= image.min() and image.max() <= 1 + 1e-3):
            raise ValueError(
                f"with mean {self.mean} and std {self.std} of the task the pictures of the batch reach from "
                f"{image.min():.3g} to {image.max():.3g}, expected 0 to 1; give the task what the pipeline's Normalise has"
            )


def stage_of(plan: Any, first: int) -> tuple[int, int, int]:
    """`Sampling.stages` of a plan whose tokens go from `first` on: how many are written, and from which to which."""
    return plan.length, first, first + plan.vocab_size - 1


def no_prompt(text: Array) -> Array:
    """The empty prompt, BOS EOS PAD ..., in as many rows and columns as `text` [b l]."""
    columns = jnp.arange(text.shape[1])
    empty = jnp.where(columns == 0, BOS, jnp.where(columns == 1, EOS, PAD))
    return jnp.broadcast_to(empty.astype(text.dtype), text.shape)


def between(first: Features, second: Features, share: Array) -> Features:
    """Place by place (1 - share) of the first and `share` [b] of the second; where only one of them has a place, it
    is all of it. At the ends places of the other alone are masked, so that they are the first and the second."""
    share = share[:, None, None]
    both = (first.mask & second.mask)[..., None]
    one = jnp.where(first.mask[..., None], first.values, second.values)
    mixed = (1 - share) * first.values + share * second.values
    mask = jnp.where(share[..., 0] <= 0, first.mask, first.mask | second.mask)
    mask = jnp.where(share[..., 0] >= 1, second.mask, mask)
    return Features(values=jnp.where(both, mixed, one), mask=mask)


def shown(image: Array, mean: float, std: float) -> Array:
    """[0, 1] of pictures that were normalised as (pixel / 255 - mean) / std; what lies beyond is cut off."""
    return jnp.clip(image * std + mean, 0.0, 1.0)


def as_bytes(images: Array) -> np.ndarray:
    """uint8 of pictures in [0, 1]."""
    images = np.asarray(images, np.float32)
    return np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)
