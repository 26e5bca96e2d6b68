"""The table of results: means and deviations by hand, and files that are refused by name."""

import json

import pytest

from vlm_jax.report import results
from vlm_jax.report.__main__ import main
from vlm_jax.report.results import MalformedResult, mean_and_deviation, results_table

EXPERIMENT = '''
"""A paper."""
import no_such_module_that_would_fail
CITATION = "Tanti et al. 2018"
PAPER: dict = {
    "merge": {"cider": 46.9, "meteor": 19.3, "parameters": 1.6e6},
    "init": {"cider": 48.1},
    "par.coco": {"bleu_4": 20.0},
}
'''


def result(**changes):
    return {
        "experiment": "where", "function": "merge", "dataset": "flickr8k", "split": "test", "seed": 0,
        "commit": "abc", "command": "python -m experiments.where", "device": "cpu", "hours": 0.5,
        "parameters": 1_650_000, "metrics": {"cider": 47.0, "bleu_4": 18.0}, **changes,
    }  # fmt: skip


def put(folder, **changes):
    content = result(**changes)
    split = "" if content["split"] == "test" else "-" + content["split"]
    name = "{experiment}.{function}.{dataset}{0}.s{seed}.json".format(split, **content)
    (folder / name).write_text(json.dumps(content))
    return folder / name


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "where.py").write_text(EXPERIMENT)
    (tmp_path / "datasets.py").write_text("PAPERS = 3\n")
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def rows(table):
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


def test_mean_and_deviation_by_hand():
    assert (
        mean_and_deviation("cider", [46.0, 47.0, 51.0]) == "48.0 ± 2.6"
    )  # sqrt((4 + 1 + 9) / 2) = 2.646
    assert mean_and_deviation("perplexity", [13.957]) == "13.96"
    assert mean_and_deviation("cider", []) == "not run"


def test_seeds_are_averaged_beside_the_papers_number(folder):
    for seed, cider, hours in ((0, 46.0, 0.5), (1, 47.0, 0.7), (2, 51.0, None)):
        put(folder, seed=seed, metrics={"cider": cider}, hours=hours)
    table = rows(results_table(folder))
    assert table[0] == [
        "Tanti et al. 2018", "`where.merge`", "flickr8k test", "CIDEr", "46.9", "48.0 ± 2.6", "3",
        "1.65 M (1.60 M)", "0.60",
    ]  # fmt: skip
    assert table[1] == ["", "", "", "METEOR", "19.3", "not run", "", "", ""]


def test_what_was_not_run_is_said_so(folder):
    put(folder)
    table = rows(results_table(folder))
    assert [
        "Tanti et al. 2018",
        "`where.init`",
        "",
        "CIDEr",
        "48.1",
        "not run",
        "",
        "",
        "",
    ] in table
    assert [
        "Tanti et al. 2018",
        "`where.par`",
        "coco",
        "BLEU-4",
        "20.0",
        "not run",
        "",
        "",
        "",
    ] in table
    put(folder, function="par", dataset="flickr8k")
    assert any("`where.par`" in row and "not run" in row for row in rows(results_table(folder)))
    put(folder, function="par", dataset="coco")
    assert not any("`where.par`" in row and "not run" in row for row in rows(results_table(folder)))


def test_other_splits_and_other_data_have_no_papers_number(folder):
    metrics = {"loss": 1.0, "facts_right": 96.25, "cider": 300.0, "odd": 1.0}
    put(folder, function="scenes", dataset="scenes", metrics=metrics)
    put(folder, split="validation")
    table = rows(results_table(folder))
    scenes = [row[3:6] for row in table if row[2].startswith("scenes") or row[:3] == ["", "", ""]]
    assert ["facts right", "-", "96.2"] in scenes
    validation = next(row for row in table if row[2] == "flickr8k validation")
    assert validation[0] == "" and validation[4] == "-"


def test_a_study_has_a_table_of_its_own_but_for_what_a_paper_has(folder):
    text = EXPERIMENT.replace('"merge": {', '"merge.coco": {')
    (folder.parent / "fusion_study.py").write_text(text)
    for dataset in ("flickr8k", "coco"):
        put(folder, experiment="fusion_study", dataset=dataset)
    shown = [row[1:3] for row in rows(results_table(folder)) if row[1].startswith("`fusion_study")]
    assert ["`fusion_study.merge`", "coco test"] in shown
    assert ["`fusion_study.merge`", "flickr8k test"] not in shown
    assert ["`fusion_study.init`", ""] in shown, "not run"


@pytest.mark.parametrize(
    "changes,reason",
    [
        ({"seed": "0"}, "'seed' is '0'"),
        ({"seed": True}, "'seed' is True"),
        ({"metrics": {}}, "metrics are {}"),
        ({"metrics": {"cider": "47"}}, "metrics are"),
        ({"metrics": {"cider": float("nan")}}, "metrics are"),
        ({"note": 1}, r"unknown \['note'\]"),
        ({"parameters": None}, "'parameters' is None"),
    ],
)
def test_a_malformed_result_is_refused_by_name(folder, changes, reason):
    path = folder / "where.merge.flickr8k.s0.json"
    path.write_text(json.dumps(result(**changes)))
    with pytest.raises(MalformedResult, match=f"where.merge.flickr8k.s0.json: .*{reason}"):
        results_table(folder)


def test_a_file_that_is_not_what_its_name_says_is_refused(folder):
    path = put(folder)
    path.rename(folder / "where.merge.flickr8k.s1.json")
    with pytest.raises(
        MalformedResult, match=r"s1.json: its content says that it is where.merge.flickr8k.s0.json"
    ):
        results_table(folder)
    for content, reason in (
        ("{", "not JSON"),
        ("[]", "expected an object"),
        ("{}", "missing .*'command'"),
    ):
        (folder / "where.merge.flickr8k.s1.json").write_text(content)
        with pytest.raises(MalformedResult, match=f"s1.json: {reason}"):
            results_table(folder)


@pytest.mark.parametrize(
    "source,reason",
    [
        ("PAPER = {}", "no CITATION"),
        ("CITATION = 'x'\nPAPER = {'a': 3}", "PAPER is not"),
        ("CITATION = 'x'\nPAPER = make()", "line 2: PAPER must be written out"),
    ],
)
def test_an_experiment_file_whose_paper_cannot_be_read_is_refused_by_name(folder, source, reason):
    (folder.parent / "odd.py").write_text(source)
    with pytest.raises(MalformedResult, match=f"odd.py.*{reason}"):
        results_table(folder)


def test_the_table_is_written_between_its_markers_and_checked(folder, capsys):
    put(folder)
    readme = folder.parent / "README.md"
    readme.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    arguments = ["results", "--folder", str(folder)]
    assert main([*arguments, "--check", str(readme)]) == 1
    assert main([*arguments, "--write", str(readme)]) == 0
    assert main([*arguments, "--check", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- results -->\n| paper |") and text.endswith(
        "|\n<!-- /results -->\nafter\n"
    )
    assert "old" not in text
    capsys.readouterr()
    assert main(arguments) == 0
    assert capsys.readouterr().out == results_table(folder)


def test_errors_are_one_line_and_leave_with_two(folder, capsys):
    readme = folder.parent / "README.md"
    readme.write_text("no markers")
    assert main(["results", "--folder", str(folder), "--write", str(readme)]) == 2
    assert readme.read_text() == "no markers"
    assert main(["results", "--folder", str(folder / "nowhere")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and results.BEGIN in errors[0] and "nowhere" in errors[1]


def test_the_curves_of_a_workdir(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "name": "train", "loss": 1.0}\n')
    assert main(["curves", str(tmp_path)]) == 0
    assert (tmp_path / "curves.png").is_file()
    assert main(["curves", str(tmp_path / "nowhere")]) == 2
    assert "metrics.jsonl" in capsys.readouterr().err


def test_cells_cannot_break_the_table(folder):
    put(folder, function="a|b")
    assert "`where.a\\|b`" in results_table(folder)


def test_the_folds_of_a_cross_validation_are_one_row_with_their_mean(folder):
    for fold, accuracy in enumerate((70.0, 80.0, 84.0)):
        put(folder, function="cnn", dataset=f"mr_fold{fold}", metrics={"accuracy": accuracy})
    put(folder, function="cnn", dataset="mr_fold0", seed=1, metrics={"accuracy": 72.0})
    (more, fewer) = [row for row in rows(results_table(folder)) if "cnn" in row[1]]
    assert (more[2], more[5], more[6], more[8]) == ("mr (1 folds) test", "72.0", "1", "0.50")
    assert (fewer[2], fewer[5], fewer[6], fewer[8]) == ("mr (3 folds) test", "78.0", "1", "1.50")
    for fold in (1, 2):
        put(folder, function="cnn", dataset=f"mr_fold{fold}", seed=1, metrics={"accuracy": 84.0})
    (both,) = [row for row in rows(results_table(folder)) if "cnn" in row[1]]
    assert both[5:7] == ["79.0 ± 1.4", "2"]  # means 78 and 80
