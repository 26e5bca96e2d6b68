"""The loop as a whole: what it logs, when it stops, what it leaves behind."""

import dataclasses
import functools
import json
import math
import os
import signal
import sys

import jax
import numpy as np
import pytest

from tests.train import toys
from vlm_jax import config
from vlm_jax.train import checkpoints as c
from vlm_jax.train import logs
from vlm_jax.train.evaluation import Evaluation, Evaluator, evaluate
from vlm_jax.train.experiment import Best
from vlm_jax.train.interrupts import Interrupted, StopRequest
from vlm_jax.train.loop import train
from vlm_jax.train.optimizers import Adam, Sgd
from vlm_jax.train.partition import Partition
from vlm_jax.train.runs import NonFiniteError
from vlm_jax.train.state import named_leaves, seed_keys, state_hash

SILENT = logs.Silent()
EXPERIMENT = toys.experiment()
VALIDATION = EXPERIMENT.evaluations[0]


def changed(**changes):
    return dataclasses.replace(EXPERIMENT, **changes)


def numbers(workdir):
    """metrics.jsonl without what depends on the clock."""
    clock = ("steps_per_second", "waiting_for_data")
    lines = logs.read_metrics(workdir / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    return workdir, state_hash(train(EXPERIMENT, workdir, SILENT))


def test_the_loop_logs_evaluates_and_saves_when_due(uninterrupted):
    workdir, _ = uninterrupted
    lines = [(line["step"], line["name"]) for line in numbers(workdir)]
    validation = [(step, "validation") for step in (5, 10, 15, 20)]
    assert sorted(lines) == sorted([(step, "train") for step in (4, 8, 12, 16, 20)] + validation)
    assert [step for step, _ in lines] == sorted(step for step, _ in lines)
    assert c.steps(workdir / "checkpoints") == [10, 15, 20]
    last = numbers(workdir)[-1]
    assert last["perplexity"] == pytest.approx(math.exp(last["loss"]))


def test_the_logged_loss_is_the_mean_over_the_tokens_of_the_window():
    """By hand: four plain steps, their token losses summed and divided once."""
    from vlm_jax.train.state import init_state
    from vlm_jax.train.steps import train_step

    experiment = changed(evaluations=(), num_steps=4)
    seen = []

    @dataclasses.dataclass(frozen=True)
    class Keep:
        def open(self, workdir, num_steps):
            writer = logs.Writer()
            writer.numbers = lambda step, name, found: seen.append((step, found))
            return writer

    train(experiment, log=Keep())
    init_key, step_key, _ = seed_keys(experiment.seed)
    tx = experiment.optimizer.build()
    data = experiment.seeded_train_data.batches()
    state = init_state(
        experiment.model, tx, next(experiment.seeded_train_data.batches())[1], init_key, ema=True
    )
    step = jax.jit(train_step(experiment.model, experiment.task, tx, ema_decay=0.9))
    total = count = 0.0
    for _ in range(4):
        state, metrics = step(state, next(data)[1], step_key)
        total, count = total + float(metrics["loss"].total), count + float(metrics["loss"].count)
    ((logged_step, found),) = seen
    assert logged_step == 4 and found["loss"] == pytest.approx(total / count, rel=1e-6)
    assert found["learning_rate"] == pytest.approx(0.05 * 3 / 5)


def test_evaluation_leaves_the_training_untouched(uninterrupted):
    assert state_hash(train(changed(evaluations=()), log=SILENT)) == uninterrupted[1]


def test_a_finished_run_that_is_started_again_changes_nothing(uninterrupted):
    workdir, expected = uninterrupted
    kept = [workdir / name for name in ("metrics.jsonl", "run.json", "config.json")]
    before = [file.read_bytes() for file in kept]
    assert json.loads(before[1])["resumed_from"] is None
    assert state_hash(train(EXPERIMENT, workdir, SILENT)) == expected
    assert [file.read_bytes() for file in kept] == before
    # Nothing is trained with the other settings either, so nothing says that it was.
    other = changed(seed=3, log_every=2)
    assert state_hash(train(other, workdir, SILENT)) == expected
    assert [file.read_bytes() for file in kept] == before


def test_another_seed_is_another_order_of_the_data(tmp_path):
    """Seed 0 leaves the pipeline as it is; two seeds see other batches, one seed the same ones twice."""
    seen = {}
    for number, seed in enumerate((0, 1, 1)):
        trace = tmp_path / str(number)
        data = toys.Pipeline(trace=str(trace))
        train(changed(train_data=data, seed=seed, num_steps=4, evaluations=()), log=SILENT)
        seen[number] = trace.read_text().splitlines()[1:]  # the first batch is drawn for its shapes
    data = toys.Pipeline().batches()
    plain = [f"{i} {' '.join(map(str, next(data)[1]['id']))}" for i in range(4)]
    assert seen[0] == plain
    assert seen[1] == seen[2] != plain


def test_a_longer_run_goes_on_from_a_shorter_one(uninterrupted, tmp_path):
    train(changed(num_steps=9), tmp_path, SILENT)
    assert c.steps(tmp_path / "checkpoints") == [5, 9]
    assert state_hash(train(EXPERIMENT, tmp_path, SILENT)) == uninterrupted[1]


def test_the_workdir_describes_the_run(uninterrupted):
    workdir, _ = uninterrupted
    node = json.loads((workdir / "config.json").read_text())
    assert config.from_json(node, packages=("vlm_jax", "tests", "flax")) == EXPERIMENT
    run = json.loads((workdir / "run.json").read_text())
    assert run["seed"] == EXPERIMENT.seed and run["versions"]["jax"] == jax.__version__
    assert run["command"] and run["device"].endswith("(cpu)") and "commit" in run


# ---- signals


def at_visit(number, visit):
    """A hook that sends the signal to this process at the given visit."""
    seen = []

    def send(*_):
        seen.append(None)
        if len(seen) == visit:
            os.kill(os.getpid(), number)

    return send


PHASES = {
    "first batch": ("batch", 1),
    "compiling": ("loss", 1),
    "step": ("batch", 8),
    "evaluation": ("score", 5),
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("phase", [*PHASES, "save"])
def test_a_signal_saves_and_returns_and_the_rest_follows(
    phase, number, uninterrupted, tmp_path, monkeypatch
):
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        if phase == "save":
            plain, send = c.Checkpoints.save, at_visit(number, 2)
            patch.setattr(c.Checkpoints, "save", lambda *a: (send(), plain(*a), None)[-1])
        else:
            name, visit = PHASES[phase]
            patch.setitem(toys.HOOKS, name, at_visit(number, visit))
        state = train(EXPERIMENT, tmp_path, SILENT)
    assert signal.getsignal(number) is handler
    assert int(state.step) < 20
    assert c.steps(tmp_path / "checkpoints")[-1] == int(state.step)
    assert state_hash(train(EXPERIMENT, tmp_path, SILENT)) == uninterrupted[1]
    assert numbers(tmp_path) == numbers(uninterrupted[0])


def test_in_a_notebook_a_second_interrupt_is_a_keyboard_interrupt(monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested == "SIGINT"
        with pytest.raises(Interrupted):
            stop.poll()
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_during_the_last_evaluation_leaves_it_to_the_next_start(
    uninterrupted, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setitem(toys.HOOKS, "score", at_visit(signal.SIGTERM, 10))
        assert int(train(EXPERIMENT, tmp_path, SILENT).step) == 20
    assert len(numbers(tmp_path)) == len(numbers(uninterrupted[0])) - 1
    assert state_hash(train(EXPERIMENT, tmp_path, SILENT)) == uninterrupted[1]
    assert numbers(tmp_path) == numbers(uninterrupted[0])


# ---- nan


@pytest.mark.parametrize("bad_step", [0, 6, 19])
def test_nan_stops_naming_step_and_leaf_with_the_batch_saved(bad_step, tmp_path):
    data = toys.Pipeline(source=toys.Rows(nan_at=bad_step))
    experiment = changed(train_data=data)
    with pytest.raises(NonFiniteError, match=rf"step {bad_step}: .* batch weight") as error:
        train(experiment, tmp_path, SILENT)
    saved = np.load(tmp_path / f"non_finite_step_{bad_step}.npz", allow_pickle=False)
    expected = next(experiment.seeded_train_data.batches(bad_step))[1]
    assert set(saved) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(saved[name], expected[name])
    assert str(tmp_path) in str(error.value)
    # The state is the one that the batch met, and starting again meets it again.
    assert c.steps(tmp_path / "checkpoints")[-1] == bad_step
    good = train(changed(num_steps=bad_step, evaluations=()), log=SILENT)
    params = c.load_variables(tmp_path, step=bad_step)["params"]
    assert state_hash(params) == state_hash(good.ema)
    with pytest.raises(NonFiniteError, match=rf"step {bad_step}:"):
        train(experiment, tmp_path, SILENT)


def test_nan_in_the_parameters_is_named(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Bad:
        def __call__(self, params):
            kernel = params["hidden"]["kernel"]
            return {**params, "hidden": {**params["hidden"], "kernel": kernel.at[0, 0].set(np.nan)}}

    toys.Bad, Bad.__module__, Bad.__qualname__ = Bad, "tests.train.toys", "Bad"
    with pytest.raises(NonFiniteError, match="step 0: .* params hidden/kernel"):
        train(changed(init_params=Bad()), tmp_path, SILENT)


def test_a_skipped_step_is_reported_and_the_run_goes_on(tmp_path):
    data = toys.Pipeline(source=toys.Rows(nan_at=6))
    state = train(changed(train_data=data, max_skips=1), tmp_path, SILENT)
    assert int(state.step) == 20 and int(state.skipped) == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert all(np.isfinite(line["loss"]) for line in numbers(tmp_path))


# ---- evaluation


@pytest.mark.parametrize("size", [1, 7, 16, 17])
def test_every_example_is_scored_once_whatever_the_batch(size):
    model, task = EXPERIMENT.model, EXPERIMENT.task
    variables = _variables()
    found = []
    for batch_size in (1, 7, 16):
        seen = []
        data = toys.Pipeline(source=toys.Rows(size=size), train=False, batch_size=batch_size)

        class Spy(toys.Task):
            def report(self, stats, seen=seen):
                seen.extend(stats["tokens"].ids)
                return super().report(stats)

        results = evaluate(
            Evaluation(name="e", data=data, reports=(print,)), model, Spy(), variables
        )
        assert seen == list(range(size)) == [example["id"] for example in results.examples]
        found.append(results)
    for other in found[1:]:
        assert other.numbers["accuracy"] == found[0].numbers["accuracy"]
        assert other.examples == found[0].examples
        assert other.numbers["loss"] == pytest.approx(found[0].numbers["loss"], rel=1e-6)
    assert isinstance(task, toys.Task)


def test_what_is_drawn_for_an_example_is_the_same_in_any_batch():
    found = []
    for batch_size in (1, 7, 16):
        data = toys.Pipeline(source=toys.Rows(size=17), train=False, batch_size=batch_size)
        evaluation = Evaluation(name="e", data=data, reports=(print,))
        found.append(evaluate(evaluation, EXPERIMENT.model, toys.Guess(), _variables()).examples)
    assert found[0] == found[1] == found[2]
    assert len({str(example["prediction"]) for example in found[0]}) > 10


@functools.cache
def _variables():
    return train(changed(num_steps=0, evaluations=()), log=SILENT).eval_variables


def test_an_evaluation_is_deterministic_and_sees_the_present_parameters():
    evaluator = Evaluator(VALIDATION, EXPERIMENT.model, EXPERIMENT.task)
    key = jax.random.key(0)
    first, again = evaluator(_variables(), key), evaluator(_variables(), key)
    assert first == again
    moved = jax.tree.map(lambda x: x + 0.1, _variables())
    assert evaluator(moved, key).numbers["loss"] != first.numbers["loss"]


def test_an_evaluation_outside_of_training_gives_what_the_run_logged(tmp_path):
    experiment = changed(task=toys.Guess(), num_steps=4)
    train(experiment, tmp_path, SILENT)
    logged = numbers(tmp_path)[-1]
    variables = c.load_variables(tmp_path)
    evaluation = dataclasses.replace(VALIDATION, reports=(print,))
    found, again, other = (
        evaluate(evaluation, experiment.model, experiment.task, variables, seed=seed)
        for seed in (experiment.seed, experiment.seed, 4)
    )
    assert {name: logged[name] for name in found.numbers} == found.numbers
    assert found == again and found.examples != other.examples


def test_reports_get_the_examples_and_the_numbers(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(toys, "report", lambda *a: seen.append(a), raising=False)
    monkeypatch.setattr(toys.report, "__module__", "tests.train.toys")
    monkeypatch.setattr(toys.report, "__qualname__", "report")
    evaluation = dataclasses.replace(VALIDATION, every=None, reports=(toys.report,))
    train(changed(evaluations=(evaluation,)), tmp_path, SILENT)
    ((workdir, step, name, examples, found),) = seen
    assert (workdir, step, name) == (tmp_path, 20, "validation")
    assert [example["id"] for example in examples] == list(range(20)) and found["accuracy"] >= 0


# ---- best checkpoint and early stopping


def test_the_best_checkpoint_is_kept_and_patience_stops(tmp_path, monkeypatch):
    scores = iter([3.0, 9.0, 5.0, 9.0, 8.0, 10.0])
    monkeypatch.setattr(toys.Task, "report", lambda self, stats: {"accuracy": next(scores)})
    experiment = changed(
        evaluations=(dataclasses.replace(VALIDATION, every=3),),
        best=Best(metric="accuracy", patience=2),
        num_steps=100,
        keep_checkpoints=1,
    )
    state = train(experiment, tmp_path, SILENT)
    assert int(state.step) == 12  # 9.0 at 6, nothing better at 9 and 12
    assert c.best_step(tmp_path) == 6
    assert c.steps(tmp_path / "checkpoints") == [6, 12]
    at_six = train(changed(num_steps=6, evaluations=()), log=SILENT)
    assert state_hash(c.load_params(tmp_path)) == state_hash(at_six.ema)
    # Started again it knows that it is out of patience: no further score is asked for, and nothing is said of a run.
    said = (tmp_path / "run.json").read_bytes()
    assert int(train(experiment, tmp_path, SILENT).step) == 12
    assert (tmp_path / "run.json").read_bytes() == said
    assert next(scores) == 8.0


def test_a_smaller_number_is_better_when_so_declared():
    best = Best(metric="loss", mode="min")
    assert best.better(1.0, None) and best.better(0.5, 1.0)
    assert not (best.better(1.5, 1.0) or best.better(math.nan, None) or best.better(math.nan, 1.0))


def test_an_unknown_best_metric_is_told_what_there_is(tmp_path):
    with pytest.raises(ValueError, match="'validation' has accuracy, loss, perplexity"):
        train(changed(best=Best(metric="validation/blue_4")), tmp_path, SILENT)


# ---- what is refused before anything runs


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"log_every": 0}, "log_every: given 0, expected an integer >= 1"),
        ({"optimizer": Sgd(learning_rate=0.1, accumulate=3)}, "accumulate: given 3.*divisor.*8"),
        ({"optimizer": Adam(learning_rate=0.1, ema_decay=1.5)}, "ema_decay: given 1.5"),
        ({"optimizer": Adam(learning_rate=0.1, clip_norm=0.0)}, "clip_norm: given 0.0"),
        ({"train_data": toys.Pipeline(train=False)}, "train_data.train: given False"),
        ({"evaluations": (VALIDATION, VALIDATION)}, "different ones"),
        (
            {"evaluations": (Evaluation(name="a", data=toys.Pipeline()),)},
            r"evaluations.0.data.train",
        ),
        ({"best": Best(metric="test/bleu_4")}, r"best.metric: given 'test/bleu_4'.*validation"),
        ({"model": toys.Model(vocab_size=12)}, "example id .* target out of range"),
        ({"optimizer": Adam(learning_rate=0.1, frozen=("^nothing/",))}, "'\\^nothing/' matches no"),
        ({"partition": Partition(mesh=(("data", 3),))}, "does not fit 1 devices"),
        ({"partition": Partition(mesh=(("rows", -1),))}, "different names out of"),
        ({"partition": Partition(rules=(("nothing", ()),))}, "'nothing' matches no parameter"),
        ({"partition": Partition(strategy="pmap", rules=(("kernel", ()),))}, "data parallel only"),
    ],
)
def test_what_cannot_run_is_refused_with_what_was_expected(changes, message):
    with pytest.raises(ValueError, match=message):
        train(changed(**changes), log=SILENT)


def test_a_checkpoint_of_another_model_is_refused_with_the_config_that_differs(tmp_path):
    train(changed(num_steps=1, evaluations=()), tmp_path, SILENT)
    other = changed(num_steps=1, evaluations=(), model=toys.Model(width=4))
    with pytest.raises(c.Mismatch, match=r"params/hidden/kernel(?s:.*)model.width: 8 -> 4"):
        train(other, tmp_path, SILENT)


# ---- logs


def test_a_torn_or_later_line_is_cut_when_the_run_goes_on(tmp_path):
    lines = logs.JsonLines(tmp_path / "metrics.jsonl")
    lines.numbers(1, "train", {"loss": 2.0})
    size = lines.size
    lines.numbers(2, "train", {"loss": float("nan")})
    assert logs.read_metrics(lines.path)[1]["loss"] == "nan"
    lines.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "na')
    assert len(logs.read_metrics(lines.path)) == 2
    logs.JsonLines(lines.path, keep_bytes=size).close()
    assert logs.read_metrics(lines.path) == [{"step": 1, "name": "train", "loss": 2}]
    lines.path.write_text('{"step": 1}\n{"st')  # shorter than it should be
    logs.JsonLines(lines.path, keep_bytes=10_000).close()
    assert lines.path.read_text() == '{"step": 1}\n'


def test_the_console_prints_lines_and_a_bar(capsys, monkeypatch):
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda t=terminal: t, raising=False)
        writer = logs.Console().open(None, 10)
        writer.start(0)
        writer.step(5)
        writer.numbers(5, "train", {"loss": 1.25, "steps_per_second": 4.0})
        writer.numbers(5, "validation", {"bleu_4": 19.5})
        writer.message("note [x]")
        writer.close()
        printed = capsys.readouterr().err
        for text in ("1.25", "4 steps/s", "left", "validation: bleu_4 19.5", "note [x]"):
            assert text in printed, (terminal, text)


def test_the_time_left_counts_from_the_first_line_on(capsys, monkeypatch):
    clock = iter((100.0, 110.0))
    monkeypatch.setattr(logs.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    writer = logs.Console().open(None, 400)
    writer.start(0)
    writer.numbers(50, "train", {"loss": 1.0, "steps_per_second": 0.5})  # compiled in here
    writer.numbers(
        100, "train", {"loss": 1.0, "steps_per_second": 25.0}
    )  # 5 s of 10 in an evaluation
    first, second = capsys.readouterr().err.splitlines()
    assert "0.5 steps/s, 0:11:40 left" in first
    assert "25 steps/s, 0:01:00 left" in second


def test_tensorboard_events_are_written(tmp_path):
    log = logs.Several(logs=(SILENT, logs.TensorBoard()))
    train(changed(num_steps=4, evaluations=()), tmp_path, log)
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in file.read_bytes()


def test_a_few_steps_can_be_traced(tmp_path):
    log = logs.Several(logs=(SILENT, logs.Profile(first=2, num_steps=2)))
    train(changed(num_steps=6, evaluations=()), tmp_path, log)
    assert list((tmp_path / "profile").rglob("*perfetto_trace.json.gz"))


def test_the_state_names_its_leaves():
    names = named_leaves(_variables())
    assert "params/hidden/kernel" in names and "batch_stats/norm/mean" in names
