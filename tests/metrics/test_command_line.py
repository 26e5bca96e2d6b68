"""python -m vlm_jax.metrics captioning"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlm_jax import __version__
from vlm_jax.metrics.__main__ import main

REFERENCES = {"1": ["A dog runs.", "The dog"], "2": ["A cat"]}
PREDICTIONS = {"2": ["a cat ."], "1": ["a dog runs ."]}


def run(folder, capsys, references=REFERENCES, predictions=PREDICTIONS, *more):
    files = []
    for name, content in (("refs.json", references), ("hyps.json", predictions)):
        file = folder / name
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        files.append(str(file))
    code = main(["captioning", "--references", files[0], "--predictions", files[1], *more])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_prints_one_object_of_scores_and_a_signature(tmp_path, capsys):
    code, out, err = run(tmp_path, capsys)
    assert (code, err, out.count("\n")) == (0, "", 1)
    scores = json.loads(out)
    assert scores.pop("signature") == (
        "bleu+rougel+cider|tokeniser:ptb-corenlp-3.4.1-lowercase-nopunct"
        f"|vlm_jax:{__version__}|references:1-2|images:2"
    )
    assert set(scores) == {f"bleu_{n}" for n in (1, 2, 3, 4)} | {"rouge_l", "cider", "cider_d"}
    assert scores["bleu_1"] == pytest.approx(100, abs=1e-5)
    assert scores["rouge_l"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"predictions": {"1": ["x"]}}, ["hyps.json", "lacks 1 of 2 ids", "'2'"]),
        ({"predictions": {**PREDICTIONS, "9": ["x"]}}, ["refs.json", "lacks 1 of 3 ids", "'9'"]),
        ({"predictions": {**PREDICTIONS, "2": ["x", "y"]}}, ["hyps.json", "'2'", "one caption"]),
        ({"predictions": {**PREDICTIONS, "2": []}}, ["hyps.json", "'2'", "one caption"]),
        ({"predictions": {**PREDICTIONS, "2": "a cat"}}, ["'2'", '"a cat"', "not a list"]),
        ({"references": {**REFERENCES, "2": []}}, ["refs.json", "no reference", "'2'"]),
        ({"references": {**REFERENCES, "2": [3]}}, ["refs.json", "'2'", "3", "not a string"]),
        ({"references": [["a"]]}, ["refs.json", "list", "expected an object"]),
        ({"references": {}}, ["refs.json", "no captions"]),
        ({"references": "{'1': []"}, ["refs.json", "not JSON", "line 1"]),
        (
            {"predictions": '{"1": ["a"], "2": ["b"], "1": ["c"]}'},
            ["hyps.json", "more than once", "'1'"],
        ),
    ],
)
def test_bad_input_is_named(tmp_path, capsys, change, words):
    code, out, err = run(tmp_path, capsys, **change)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    for word in words:
        assert word in err


def test_many_missing_ids_are_counted_and_five_named(tmp_path, capsys):
    references = {str(i): ["x"] for i in range(20)}
    _, _, err = run(tmp_path, capsys, references=references, predictions={"0": ["x"]})
    assert "lacks 19 of 20 ids" in err and "14 more" in err


def test_a_missing_file_is_named(tmp_path, capsys):
    code = main(["captioning", "--references", str(tmp_path / "no.json"), "--predictions", "x"])
    assert code == 2 and "no.json" in capsys.readouterr().err


def test_meteor_without_java_is_refused_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, err = run(tmp_path, capsys, REFERENCES, PREDICTIONS, "--meteor")
    assert (code, out) == (2, "") and "Java runtime" in err


def test_runs_as_a_module(tmp_path):
    for name, content in (("r.json", REFERENCES), ("h.json", PREDICTIONS)):
        (tmp_path / name).write_text(json.dumps(content))
    done = subprocess.run(
        [sys.executable, "-m", "vlm_jax.metrics", "captioning"]
        + ["--references", str(tmp_path / "r.json"), "--predictions", str(tmp_path / "h.json")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "cider" in json.loads(done.stdout)
