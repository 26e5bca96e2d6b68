"""An experiment: a frozen tree of built objects that the loop runs and a checkpoint remembers."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.optimizers import Optimizer
from vlm_jax.train.partition import Partition
from vlm_jax.types import Batch


class Pipeline(Protocol):
    """Batches whose whole state is one integer."""

    source: Any
    batch_size: int
    train: bool
    seed: int

    def batches(
        self, position: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[int, Batch]]:
        """(position after the batch, batch); endless where `train`, once over the source where not."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Best:
    """The number that says which checkpoint is best; it is kept beside the latest ones.

    `metric` is 'evaluation/number', or 'number' of the first evaluation.
    """

    metric: str
    mode: Literal["max", "min"] = "max"
    patience: int | None = (
        None  # evaluations without an improvement until training stops; None: never
    )

    def better(self, value: float, than: float | None) -> bool:
        """False for nan."""
        if than is None:
            return value == value
        return value > than if self.mode == "max" else value < than


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that a run is made of; equal experiments give equal runs."""

    model: Any  # a Linen module, or one Adapted
    task: Any
    train_data: Any
    num_steps: int
    optimizer: Optimizer
    evaluations: tuple[Evaluation, ...] = ()
    init_params: Callable[[Any], Any] | None = (
        None  # params -> params: pretrained weights, a frozen dataclass
    )
    partition: Partition = Partition()
    best: Best | None = None
    max_skips: int = (
        0  # steps in a row skipped because a gradient is not finite; one more stops the run
    )
    log_every: int = 50
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    seed: int = 0  # of parameters, dropout, sampling and, added to train_data.seed, of the order of the data

    @property
    def seeded_train_data(self) -> Pipeline:
        """`train_data` in the order of this run's seed."""
        return dataclasses.replace(self.train_data, seed=self.train_data.seed + self.seed)


def check(experiment: Experiment) -> None:
    """Raises ValueError for what cannot run, before anything is built."""
    least = {
        "num_steps": 0,
        "log_every": 1,
        "checkpoint_every": 1,
        "keep_checkpoints": 1,
        "max_skips": 0,
    }
    for name, smallest in least.items():
        value = getattr(experiment, name)
        if value < smallest:
            raise ValueError(f"{name}: given {value}, expected an integer >= {smallest}")
    optimizer, batch_size = experiment.optimizer, experiment.train_data.batch_size
    if optimizer.accumulate < 1 or batch_size % optimizer.accumulate:
        raise ValueError(
            f"optimizer.accumulate: given {optimizer.accumulate}, expected a divisor of "
            f"train_data.batch_size {batch_size}"
        )
    if optimizer.accumulate > 1 and getattr(experiment.task, "needs_whole_batch", False):
        raise ValueError(
            f"optimizer.accumulate: given {optimizer.accumulate}, expected 1: {type(experiment.task).__name__} compares "
            "each row with the whole batch, and micro-batches would leave rows out; use a smaller batch_size, or more "
            "devices"
        )
    if optimizer.ema_decay is not None and not 0.0 <= optimizer.ema_decay < 1.0:
        raise ValueError(
            f"optimizer.ema_decay: given {optimizer.ema_decay}, expected 0 <= decay < 1"
        )
    if optimizer.clip_norm is not None and optimizer.clip_norm <= 0.0:
        raise ValueError(f"optimizer.clip_norm: given {optimizer.clip_norm}, expected > 0, or none")
    for rule, factor in optimizer.rates:
        if not factor > 0.0:
            raise ValueError(
                f"optimizer.rates: given the factor {factor} for {rule!r}, expected > 0; what never changes goes into "
                "optimizer.frozen"
            )
    if not experiment.train_data.train:
        raise ValueError(
            "train_data.train: given False, expected True (shuffled and endless); the order of an "
            "evaluation is not for training"
        )
    names = [evaluation.name for evaluation in experiment.evaluations]
    if len(set(names)) != len(names):
        raise ValueError(f"evaluations: given the names {names}, expected different ones")
    for index, evaluation in enumerate(experiment.evaluations):
        if evaluation.data.train:
            raise ValueError(
                f"evaluations.{index}.data.train: given True, expected False: an evaluation sees each "
                "example once"
            )
    if experiment.best is not None:
        evaluation = experiment.best.metric.rpartition("/")[0]
        if not names or (evaluation and evaluation not in names):
            raise ValueError(
                f"best.metric: given {experiment.best.metric!r}, expected 'evaluation/number' with one of "
                f"the evaluations {names}"
            )
