"""What every experiment on questions shares: the task, the metrics, the evaluations around a model."""

import dataclasses

from experiments.questions import QuestionData
from vlm_jax.models.classifier import Classifier
from vlm_jax.tasks.vqa import QuestionAnswering
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.optimizers import Optimizer

# Questions to train on.
SCENES = 74_407
DAQUAR = 5_599
VQA_V2 = 443_757


def answerer(
    data: QuestionData,
    model: Classifier,
    *,
    optimizer: Optimizer,
    num_steps: int,
    evaluations: int = 8,
    best: str = "validation/accuracy",
) -> Experiment:
    """Validation `evaluations` times, of which the checkpoint with the best `best` is kept."""
    every = -(-num_steps // evaluations)
    return Experiment(
        model=model,
        task=QuestionAnswering(classes=data.classes, metrics=data.metrics),
        train_data=data.train,
        num_steps=num_steps,
        optimizer=optimizer,
        evaluations=data.evaluations(every=every),
        best=Best(metric=best),
        checkpoint_every=every,
    )


def smoke(experiment: Experiment) -> Experiment:
    """The experiment with two steps and one short evaluation: a check that everything fits, no result."""
    few = dataclasses.replace(experiment.evaluations[0], every=None, max_batches=1)
    return dataclasses.replace(
        experiment, num_steps=2, evaluations=(few,), best=None, log_every=1, checkpoint_every=2
    )
