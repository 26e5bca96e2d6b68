"""The command line, end to end on the tiny scenes and mistake by mistake."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import show_and_tell, where_to_put_the_image
from tests.data.test_encoded import TRANSFORMS, Patches
from tests.data.test_views import png
from vlm_jax import config
from vlm_jax import main as command_line
from vlm_jax.commands import saved
from vlm_jax.commands.command import OPTIONS, UserError
from vlm_jax.commands.pipelines import over_pictures
from vlm_jax.commands.workdirs import variables_of
from vlm_jax.data import source as sources
from vlm_jax.data.datasets.scenes_layout import generate
from vlm_jax.data.datasets.scenes_pictures import render
from vlm_jax.data.encoded import Encoded
from vlm_jax.data.image_transforms import Decode, HorizontalFlip
from vlm_jax.data.source import InMemory
from vlm_jax.data.views import Views
from vlm_jax.report.results import read_results
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train import checkpoints
from vlm_jax.train.checkpoints import Lock
from vlm_jax.train.logs import read_metrics

ROOT = Path(__file__).parent.parent
FUNCTIONS = (show_and_tell.paper, show_and_tell.scenes, show_and_tell.smoke)
BEST = '{"$type": "vlm_jax.train.experiment:Best", "metric": "validation/parsed"}'
TRAIN = ["smoke", "train", "--checkpoint_every", "1", "--evaluations.0.every=1", "--best", BEST]
KEYS = "experiment function dataset split seed commit command device hours parameters signature metrics".split()


def run(*argv):
    """The exit code of the command line of experiments/show_and_tell.py."""
    return command_line.main(*FUNCTIONS, argv=[str(word) for word in argv])


def num_parameters():
    """Of the smoke captioner, as it is initialised."""
    experiment = show_and_tell.smoke()
    batch = next(experiment.train_data.batches())[1]
    shapes = jax.eval_shape(lambda: experiment.model.init(jax.random.key(0), batch, train=False))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Two steps, evaluated after each; nothing parses, so the first is the best."""
    folder = tmp_path_factory.mktemp("runs") / "show"
    command = [sys.executable, "-m", "experiments.show_and_tell", *TRAIN, "--workdir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "step 2/2  train: " in done.stderr and "loss" in done.stderr
    return folder


@pytest.fixture
def no_data(monkeypatch):
    """The training data is not on this machine."""

    def refuse(*given):
        raise AssertionError(f"the data {given} was opened")

    monkeypatch.setattr(sources, "_open_tfds", refuse)


@pytest.fixture
def pictures(tmp_path):
    """Four files, the third of them no picture."""
    scene = render(generate(0, "validation", 0))
    Image.fromarray(scene).save(tmp_path / "scene.png")
    Image.fromarray(scene[::-1]).save(tmp_path / "photo.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"<html>not found</html>")
    Image.fromarray(scene).convert("CMYK").save(tmp_path / "print.tif")
    return [str(tmp_path / name) for name in ("scene.png", "photo.jpg", "broken.jpg", "print.tif")]


# ---- what a workdir holds


def test_training_leaves_all_that_the_run_was(workdir):
    run = json.loads((workdir / "run.json").read_text())
    assert run["seed"] == 0 and "cpu" in run["device"]
    assert {"python", "jax", "flax", "numpy", "vlm_jax"} <= run["versions"].keys()
    assert str(workdir) in run["command"] and "commit" in run
    about = json.loads((workdir / "about.json").read_text())
    assert about["experiment"] == "show_and_tell" and about["function"] == "smoke"
    assert about["command"].startswith("python -m experiments.show_and_tell smoke train ")
    assert str(workdir) in about["command"]
    for name in ("config.json", "tokenizer.json", "curves.png", "gallery_validation.html"):
        assert (workdir / name).stat().st_size > 0, name
    assert list((workdir / "tensorboard").iterdir())
    lines = read_metrics(workdir / "metrics.jsonl")
    assert [line["step"] for line in lines if line["name"] == "train"] == [1, 2]


def test_evaluate_measures_what_training_measured(workdir, capsys):
    assert run("evaluate", "--workdir", workdir, "--step", "latest") == 0
    printed = json.loads(capsys.readouterr().out)
    logged = read_metrics(workdir / "metrics.jsonl")[-1]
    assert (printed.pop("evaluation"), printed.pop("step")) == ("validation", 2)
    assert printed.pop("signature").startswith("bleu+rougel+cider|")
    assert printed == {
        name: pytest.approx(value, rel=1e-4)
        for name, value in logged.items()
        if name not in ("step", "name")
    }


def test_a_result_file_has_the_agreed_keys_and_says_how_it_came_about(workdir, tmp_path, capsys):
    folder = tmp_path / "results"
    whole = "--evaluations.0.max_batches=none"
    assert run("evaluate", "--workdir", workdir, whole, "--only", "validation", f"--record={folder}") == 0  # fmt: skip
    path = folder / "show_and_tell.smoke.scenes_tiny-validation.s0.json"
    assert f"recorded {path}" in capsys.readouterr().out
    result = json.loads(path.read_text())
    assert list(result) == KEYS
    assert (result["dataset"], result["split"], result["seed"]) == ("scenes_tiny", "validation", 0)
    assert result["parameters"] == num_parameters() and result["hours"] > 0
    train, evaluate = result["command"].split(" && ")
    assert " train " in train and whole in evaluate
    assert result["signature"].startswith("bleu+rougel+cider|tokeniser:ptb")
    assert {"bleu_4", "cider", "facts_right"} <= result["metrics"].keys()
    assert read_results(folder) == [result]


def test_a_part_of_a_split_is_not_recorded(workdir, tmp_path, capsys):
    assert run("evaluate", "--workdir", workdir, f"--record={tmp_path}/results") == 2
    assert "max_batches" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_describe_counts_the_parameters(workdir, capsys):
    assert run("smoke", "describe") == 0
    fresh = capsys.readouterr().out
    assert f"{num_parameters():,}" in fresh.splitlines()[2] and "decoder/rnn" in fresh
    assert run("describe", "--workdir", workdir) == 0
    assert capsys.readouterr().out == fresh


# ---- predict


def test_predict_needs_the_workdir_and_the_pictures_only(workdir, pictures, no_data, capsys):
    assert run("predict", *pictures, "--workdir", workdir) == 0
    printed = capsys.readouterr()
    lines = [line.split("\t") for line in printed.out.splitlines()]
    assert [name for name, _ in lines] == [pictures[0], pictures[1], pictures[3]]
    captions = dict(lines)
    assert all(caption.split() for caption in captions.values())
    assert f"skipped {pictures[2]}: " in printed.err and "Traceback" not in printed.err
    assert run("predict", "--json", *pictures, "--workdir", workdir) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(one) for one in found] == [["file", "caption", "log_prob"]] * 3
    assert {one["file"]: one["caption"] for one in found} == captions
    assert all(one["log_prob"] < 0 for one in found)
    greedy = ("--task.decoding.width", "1", "--task.decoding.length_penalty")
    for penalty in ("0", "1"):  # the search divides by the length; what is printed is not divided
        assert run("predict", "--json", pictures[0], "--workdir", workdir, *greedy, penalty) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second
    sheets = pictures[0] + ".maps"
    assert run("predict", pictures[0], "--workdir", workdir, "--attention", sheets) == 2
    assert "this model has no attention" in capsys.readouterr().err


def _data_of(experiment):
    return experiment.evaluations[0].data


def test_predict_says_that_standardised_features_need_the_training_pictures(
    pictures, tmp_path, monkeypatch
):
    for name in ("VLM_JAX_DATA", "TFDS_DATA_DIR", "VLM_JAX_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    with pytest.raises(UserError) as error:
        over_pictures(_data_of(where_to_put_the_image.merge()), pictures)
    message = str(error.value)
    assert "mean and deviation of the training pictures" in message and "flickr8k" in message


def test_predict_sees_a_picture_as_the_evaluation_does(pictures):
    experiment = show_and_tell.smoke()
    pipeline, good = over_pictures(_data_of(experiment), pictures)
    assert good == [pictures[0], pictures[1], pictures[3]]
    given = next(pipeline.batches())[1]
    evaluated = next(experiment.evaluations[0].data.batches())[1]
    np.testing.assert_array_equal(given["image"][0], evaluated["image"][0])
    assert given["valid"].tolist() == [True] * 3 + [False] * 5
    assert "target" not in given


@pytest.mark.parametrize(
    "argv, message",
    [
        (["predict"], "predict needs picture files"),
        (["predict", "nowhere.png", "--workdir", "x"], "no such picture file: nowhere.png"),
        (["predict", __file__, "--workdir", "{workdir}"], "none of the pictures can be read"),
    ],
)
def test_predict_says_which_pictures_are_missing(argv, message, workdir, capsys):
    assert run(*[word.format(workdir=workdir) for word in argv]) == 2
    assert message in capsys.readouterr().err


# ---- help and mistakes


def test_help_lists_functions_and_every_path_with_its_present_value(capsys):
    assert run("smoke", "--help", "--model.decoder.width", "9") == 0
    text = capsys.readouterr().out
    for function in FUNCTIONS:
        assert f"  {function.__name__} " in text and function.__doc__.splitlines()[0] in text
    experiment = config.override(show_and_tell.smoke(), {"model.decoder.width": 9})
    paths = config.flatten(experiment)
    assert len(paths) > 100 and "  --model.decoder.width = 9\n" in text
    for path in paths:
        assert f"  --{path} = " in text
    for name in OPTIONS:
        assert f"  --{name}" in text


@pytest.mark.parametrize(
    "argv, messages",
    [
        ([], ["expected [FUNCTION] and one of train", "given nothing", "paper, scenes, smoke"]),
        (["trian"], ["given trian", "nearest: train"]),
        (["smok", "train"], ["given smok", "nearest: smoke"]),
        (["train", "smoke"], ["takes no file names", "write smoke train"]),
        (["train", "--model.decodr.width", "3"], ["model.decodr.width", "Nearest: model.decoder."]),
        (["train", "--learing_rate", "3"], ["learing_rate", "optimizer.learning_rate"]),
        (["train", "--record"], ["--record is for evaluate, given with train"]),
        (["evaluate", "--question", "y"], ["--question is for predict, given with evaluate"]),
        (["train", "--wrokdir", "x"], ["unknown option --wrokdir", "nearest: --workdir"]),
        (["train", "--model.decoder.width", "wide"], ["given 'wide'", "expected int"]),
        (["train", "--num_steps", "2.5"], ["given '2.5'", "expected int"]),
        (["train", "--train_data.seed", "-1"], ["given -1", "expected 0 to"]),
        (
            ["smoke", "train", "--log_every=-1", "--workdir", "{workdir}"],
            ["log_every: given -1", "expected an integer >= 1"],
        ),
        (["train", "--num_steps"], ["--num_steps needs a value"]),
        (["train", "--workdir", "--seed", "1"], ["--workdir needs a value: --workdir DIR"]),
        (["describe", "--json=yes"], ["--json takes no value, given yes"]),
        (["evaluate"], ["--workdir DIR is needed"]),
        (["evaluate", "--workdir", "/nowhere"], ["/nowhere has no config.json; train first"]),
        (["evaluate", "--workdir", "{workdir}", "--only", "tset"], ["given tset", "validation"]),
        (["evaluate", "--workdir", "{workdir}", "--step", "7"], ["given 7", "one of 1, 2"]),
        (["evaluate", "--workdir", "{workdir}", "x.png"], ["takes no file names, given x.png"]),
        (["scenes", "evaluate", "--workdir", "{workdir}"], ["belongs to show_and_tell smoke"]),
        (["train", "--workdir", "{workdir}"], ["belongs to show_and_tell smoke", "tell paper"]),
    ],
)
def test_a_mistake_is_one_line_and_code_2(argv, messages, workdir, capsys):
    before = (workdir / "about.json").read_text()
    assert run(*[word.format(workdir=workdir) for word in argv]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1 and "Traceback" not in printed.err
    for message in messages:
        assert message in printed.err
    assert (workdir / "about.json").read_text() == before


def test_values_follow_after_a_space_or_an_equals_sign_and_may_be_negative():
    argv = (
        "smoke train --seed 3 --optimizer.learning_rate.end -0.5 --num_steps=7 --model.fusion=none"
    )
    command = command_line.parse(argv.split(), FUNCTIONS)
    experiment = command.build()
    assert (experiment.seed, experiment.num_steps, experiment.model.fusion) == (3, 7, None)
    assert experiment.optimizer.learning_rate.end == -0.5


def test_record_takes_a_folder_or_none():
    def recorded(text):
        return command_line.parse(text.split(), FUNCTIONS).options["record"]

    assert recorded("evaluate --record") == ""
    assert recorded("evaluate --record --workdir w") == ""
    assert recorded("--record smoke evaluate") == ""
    assert recorded("evaluate --record here --workdir w") == "here"
    assert recorded("evaluate --record=here") == "here"


def test_a_mistake_in_the_code_keeps_its_traceback():
    def broken():
        return {}["nothing"]

    def refused():
        raise UserError("no")

    with pytest.raises(KeyError):
        command_line.main(broken, argv=["train"])
    assert command_line.main(refused, argv=["train"]) == 2
    with pytest.raises(UserError):
        command_line.main(refused, argv=["train", "--traceback"])


def test_a_workdir_in_use_is_left_alone(workdir, capsys):
    before = (workdir / "about.json").read_text()
    lock = Lock(workdir)
    try:
        assert run(*TRAIN, "--workdir", workdir, "--seed", "5") == 2
    finally:
        lock.release()
    assert f"in use by another run (pid {os.getpid()} " in capsys.readouterr().err
    assert (workdir / "about.json").read_text() == before


def test_a_finished_run_stays_that_of_the_command_that_did_it(workdir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    kept = [copy / name for name in ("about.json", "config.json", "run.json")]
    before = [file.read_bytes() for file in kept]
    assert run(*TRAIN, "--workdir", copy, "--log_every", "7") == 0
    assert "nothing is left to train" in capsys.readouterr().err
    assert [file.read_bytes() for file in kept] == before


def test_the_seed_that_is_recorded_is_that_of_the_run(workdir, tmp_path):
    line = ["evaluate", "--workdir", workdir, "--evaluations.0.max_batches=none"]
    line += ["--only", "validation", "--seed", "7", f"--record={tmp_path}"]
    assert run(*line) == 0
    (found,) = tmp_path.iterdir()
    assert found.name.endswith(".s0.json") and json.loads(found.read_text())["seed"] == 0


def test_numbers_are_printed_where_no_page_can_be_written(workdir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    (copy / "gallery_validation.html").unlink()
    (copy / "gallery_validation.html").mkdir()
    assert run("evaluate", "--workdir", copy, "--only", "validation") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["evaluation"] == "validation"
    assert "validation: no page: " in printed.err


@pytest.mark.parametrize(
    "argv, message",
    [
        (["train", "--workdir", "{file}"], "File exists"),
        (["train", "--workdir", "{file}/x"], "Not a directory"),
        (["evaluate", "--workdir", "{workdir}", "--model.decoder.width", "16"], "another model"),
    ],
)
def test_what_the_machine_or_flax_refuses_is_a_line_too(argv, message, workdir, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = [word.format(workdir=workdir, file=tmp_path / "file") for word in argv]
    assert run(*words) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed


# ---- checkpoints and tokenizers


def test_step_names_a_checkpoint(workdir, tmp_path, capsys):
    def kernel(folder, step):
        variables, number = variables_of(folder, step)
        return number, np.asarray(variables["params"]["decoder"]["vocabulary"]["linear"]["kernel"])

    best, latest = kernel(workdir, None), kernel(workdir, "latest")
    assert (best[0], latest[0]) == (1, 2) and not np.array_equal(best[1], latest[1])
    for other, same in (("best", best), ("1", best), ("2", latest)):
        number, values = kernel(workdir, other)
        assert number == same[0]
        np.testing.assert_array_equal(values, same[1])
    shutil.copytree(workdir, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "checkpoints" / "2" / "state")
    number, values = kernel(tmp_path / "copy", "latest")
    assert number == 1 and "step 2 is damaged and left out" in capsys.readouterr().err
    np.testing.assert_array_equal(values, best[1])


def test_last_n_is_the_mean_of_the_newest_checkpoints_and_is_recorded(workdir, tmp_path, capsys):
    both = [checkpoints.load_variables(workdir, step) for step in (1, 2)]
    mean, number = variables_of(workdir, "last-2")
    assert number == 2 and mean.keys() == both[1].keys()
    halves = jax.tree.map(
        lambda a, b: ((np.float64(a) + np.float64(b)) / 2).astype(np.float32),
        *(variables["params"] for variables in both),
    )
    jax.tree.map(np.testing.assert_array_equal, mean["params"], halves)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(mean["params"]))
    newest, _ = variables_of(workdir, "last-1")
    jax.tree.map(np.testing.assert_array_equal, newest["params"], both[1]["params"])
    for step in ("last-3", "last-0", "last-"):
        assert run("evaluate", "--workdir", workdir, "--step", step) == 2
        assert f"given {step}" in (error := capsys.readouterr().err) and "last-1 to last-2" in error
    whole = "--evaluations.0.max_batches=none"
    assert run("evaluate", "--workdir", workdir, whole, "--step", "last-2", f"--record={tmp_path}") == 0  # fmt: skip
    (result,) = read_results(tmp_path)
    assert "--step last-2" in result["command"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """Stands for an experiment with two vocabularies, one of them in two places."""

    target: WordTokenizer
    source: WordTokenizer
    again: tuple[WordTokenizer, ...]


def holder(*captions):
    corpus = InMemory([{"id": i, "captions": (text,)} for i, text in enumerate(captions)])
    target = WordTokenizer(corpus=corpus, vocab_size=16)
    return Holder(target=target, source=dataclasses.replace(target, min_count=2), again=(target,))


def test_every_tokenizer_is_saved_once_and_read_without_its_corpus(tmp_path):
    before = holder("a dog runs", "a cat")
    saved.save_tokenizers(before, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tokenizer-2.json", "tokenizer.json"]
    gone = holder()  # a corpus without a caption: what was saved must do
    after = saved.with_saved_tokenizers(gone, tmp_path)
    assert after.target.encode("a cat runs") == before.target.encode("a cat runs") == [4, 5, 7]
    assert after.source.encode("a cat runs") == before.source.encode("a cat runs") == [4, 3, 3]
    assert after.again == (after.target,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Stands for an experiment with one evaluation, on two views of cached features."""

    evaluations: tuple[Views, ...]


def evaluated(standardise):
    pictures = InMemory([{"id": i, "image": noise(i), "captions": ("a",)} for i in range(3)])
    mirrored = (Decode(), HorizontalFlip(rate=1.0), *TRANSFORMS[1:])
    source = Encoded(source=pictures, encoder=Patches(), standardise=standardise)
    return Evaluated(evaluations=(Views(source=source, transforms=(TRANSFORMS, mirrored)),))


def noise(seed):
    return png(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8))


def test_statistics_are_saved_for_each_view_and_read_without_the_training_pictures(tmp_path):
    training = InMemory([{"id": i, "image": noise(10 + i), "captions": ()} for i in range(4)])
    (before,) = evaluated(training).evaluations
    saved.save_statistics(evaluated(training), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["statistics.npz"]
    (after,) = saved.with_saved_statistics(evaluated(Gone()), tmp_path).evaluations
    for k in range(2):
        np.testing.assert_array_equal(after[1]["image"][k], before[1]["image"][k])
    saved.save_statistics(Evaluated(evaluations=()), tmp_path / "none")  # writes nothing
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    saved.save_statistics(evaluated(training), tmp_path)
    with pytest.raises(ValueError, match="another mean and deviation"):
        saved.save_statistics(evaluated(InMemory([training[0], training[1]])), tmp_path)
    assert not list(tmp_path.glob("*.new"))


class Gone:
    """Training pictures that are not here."""

    references = {}

    def __len__(self):
        raise OSError("not here")


def test_a_run_does_not_go_on_with_another_vocabulary(tmp_path):
    saved.save_tokenizers(holder("a dog"), tmp_path)
    saved.save_tokenizers(holder("a cat"), tmp_path)  # nothing trained yet: written anew
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    saved.save_tokenizers(holder("a cat"), tmp_path)
    kept = (tmp_path / "tokenizer.json").read_bytes()
    with pytest.raises(ValueError, match="another vocabulary .* corpus has changed"):
        saved.save_tokenizers(holder("a dog"), tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == kept
    assert not list(tmp_path.glob("*.new"))


def folded(fold: int = 0):
    """The captioner of one fold."""
    return dataclasses.replace(show_and_tell.smoke(), seed=fold)


def test_a_function_is_called_with_its_own_arguments(capsys, tmp_path):
    def parsed(*argv):
        return command_line.parse(argv, (show_and_tell.smoke, folded))

    assert parsed("folded", "train", "--fold", "3").build().seed == 3
    assert parsed("folded", "train").build().seed == 0
    assert parsed("folded", "describe", "--fold=2", "--num_steps", "5").build().num_steps == 5
    with pytest.raises(UserError, match="--fold: given x, expected int, as 0"):
        parsed("folded", "train", "--fold", "x")
    with pytest.raises(UserError, match="unknown"):
        parsed("smoke", "train", "--fold", "3").build()
    assert command_line.main(show_and_tell.smoke, folded, argv=["--help"]) == 0
    assert "--fold 0" in capsys.readouterr().out
    (tmp_path / "config.json").write_text("{}")
    argv = ["folded", "evaluate", "--fold", "1", "--workdir", str(tmp_path)]
    assert command_line.main(show_and_tell.smoke, folded, argv=argv) == 2
    assert "--fold is an argument of folded, chosen when the run begins" in capsys.readouterr().err
