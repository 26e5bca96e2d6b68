"""experiments/long_tail_study.py: one method differs from plain cross-entropy in what its name says, and in nothing else."""

import dataclasses

import pytest

from experiments import long_tail_study as study
from tests.test_experiments import FILES
from vlm_jax import config
from vlm_jax.commands.command import UserError

METHODS = [getattr(study, name) for name in FILES["long_tail_study"] if name != "smoke"]
DATA = ("fashion_mnist", "cifar10")


def nodes(experiment):
    found = []
    config.transform(experiment, lambda node: found.append(node) or node)
    return found


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("data, size", [("fashion_mnist", 14_886), ("cifar10", 12_406)])
def test_source_losses_sampling_and_scores_count_alike(method, data, size):
    counts = {node.counts for node in nodes(method(data)) if hasattr(node, "counts")}
    (only,) = counts
    assert sum(only) == size and only[0] == 100 * only[-1]


@pytest.mark.parametrize("data", DATA)
def test_methods_differ_in_task_sampling_and_head_alone(data):
    plain = study.cross_entropy(data)
    same = lambda e: dataclasses.replace(  # noqa: E731
        e,
        model=e.model.clone(cosine_scale=None),
        task=plain.task,
        train_data=dataclasses.replace(e.train_data, sampling=None),
    )
    experiments = [method(data) for method in METHODS]
    assert {same(e) for e in experiments} == {plain}
    assert len(set(experiments)) == len(experiments)


def test_imbalance_is_an_argument():
    for imbalance, last in ((10, 500), (50, 100)):
        assert study.counts_of(study.focal("cifar10", imbalance))[-1] == last
    with pytest.raises(UserError, match="given cifar100, expected one of fashion_mnist, cifar10"):
        study.focal("cifar100")


def test_the_form_of_the_tail_is_an_argument():
    assert study.counts_of(study.ldam("cifar10", tail="step")) == (5000,) * 5 + (50,) * 5
    for method in METHODS:
        experiment = method("cifar10", 10, "step")
        assert study.counts_of(experiment) == (5000,) * 5 + (500,) * 5
        assert len(experiment.train_data.source) == 27_500
    with pytest.raises(UserError, match="--tail: given cliff, expected one of exponential, step"):
        study.focal(tail="cliff")


def test_deferred_weights_begin_when_a_fifth_is_left():
    experiment = study.ldam_deferred("cifar10")
    start, drop = experiment.task.objective.start, experiment.optimizer.learning_rate.boundaries[0]
    assert abs(start / experiment.num_steps - 0.8) < 1e-3 and abs(start - drop) <= 1
