"""Every experiment file: its functions describe themselves without data, and its `smoke` trains."""

import ast
import importlib
import inspect
import json
import math
from pathlib import Path

import pytest

from tests.pretrained import folders
from vlm_jax import config
from vlm_jax import main as command_line
from vlm_jax.commands.command import OPTIONS
from vlm_jax.data import encoded, source
from vlm_jax.report.results import read_papers
from vlm_jax.tasks.captioning import Captioning
from vlm_jax.train.experiment import check
from vlm_jax.train.logs import Writer
from vlm_jax.train.loop import train

FOLDER = Path(__file__).parent.parent / "experiments"


def functions_of(path: Path) -> list[str]:
    """The names given to main(...) at the end of an experiment file; none where the file has no main."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "main":
            return [argument.id for argument in node.args]
    return []


def writes_captions(experiment) -> bool:
    return isinstance(experiment.task, Captioning)


FILES = {p.stem: functions_of(p) for p in sorted(FOLDER.glob("*.py")) if functions_of(p)}
EVERY = [(file, function) for file, functions in FILES.items() for function in functions]


def function(file: str, name: str):
    return getattr(importlib.import_module(f"experiments.{file}"), name)


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """Nothing can be opened: no records, no cached features, no folder with files placed by hand."""

    def refuse(*given):
        raise AssertionError(f"an experiment that is only described opened {given}")

    monkeypatch.setattr(source, "_open_tfds", refuse)
    monkeypatch.setattr(encoded, "_open_encoded", refuse)
    monkeypatch.setenv("VLM_JAX_DATA", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("VLM_JAX_CACHE", str(tmp_path))


def test_there_are_experiments():
    assert {"show_and_tell", "show_attend_and_tell", "where_to_put_the_image"} <= FILES.keys()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Published weights, for experiments that go on from some."""
    return folders.asked(tmp_path_factory.mktemp("published"))


@pytest.mark.parametrize("file, name", EVERY)
def test_a_config_survives_the_round_trip_through_json_without_data(file, name, folder, no_data):
    given = {"weights": folder} if name == "published" else {}
    experiment = function(file, name)(**given)
    check(experiment)
    text = json.dumps(config.to_json(experiment), allow_nan=False)
    again = config.from_json(json.loads(text))
    assert again == experiment and hash(again) == hash(experiment)
    assert function(file, name)(**given) == experiment


@pytest.mark.parametrize("file, name", EVERY)
def test_no_argument_is_called_like_an_option(file, name):
    assert not inspect.signature(function(file, name)).parameters.keys() & OPTIONS.keys()


@pytest.mark.parametrize("file", FILES)
def test_help_says_what_every_function_is(file, no_data, capsys):
    functions = [function(file, name) for name in FILES[file]]
    assert command_line.main(*functions, argv=["--help"]) == 0
    text = capsys.readouterr().out
    for each in functions:
        assert each.__doc__ and f"  {each.__name__} " in text
    assert importlib.import_module(f"experiments.{file}").__doc__.strip() in text


@pytest.mark.parametrize("file", FILES)
def test_the_paper_is_named_with_its_numbers(file):
    paper = read_papers(FOLDER)[file]
    assert {key.split(".")[0] for key in paper.numbers} <= set(FILES[file])
    assert "smoke" in FILES[file]
    assert not writes_captions(function(file, "smoke")()) or "scenes" in FILES[file]


class Seen(Writer):
    """Keeps the numbers of a run."""

    def __init__(self):
        self.found = {}

    def open(self, workdir, num_steps):
        return self

    def numbers(self, step, name, numbers):
        self.found[name, step] = dict(numbers)


@pytest.mark.parametrize("file", [file for file, names in FILES.items() if "smoke" in names])
def test_smoke_takes_two_steps_and_evaluates(file):
    experiment, seen = function(file, "smoke")(), Seen()
    state = train(experiment, log=seen)
    assert int(state.step) == experiment.num_steps == 2
    (evaluation,) = experiment.evaluations
    assert seen.found.keys() == {("train", 1), ("train", 2), (evaluation.name, 2)}
    for numbers in seen.found.values():
        assert all(math.isfinite(value) for value in numbers.values()), numbers
    vocab_size = getattr(getattr(experiment.model, "decoder", None), "vocab_size", None)
    if vocab_size is not None:  # it knows nothing yet
        assert abs(seen.found["train", 1]["loss"] - math.log(vocab_size)) < 1.5
    found = seen.found[evaluation.name, 2].keys()
    if writes_captions(experiment):
        assert {"bleu_4", "cider", "facts_right"} <= found
    else:  # whatever the paper reports is measured
        reported = {
            name for numbers in read_papers(FOLDER)[file].numbers.values() for name in numbers
        }
        assert reported - {"parameters"} <= found
