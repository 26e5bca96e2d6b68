"""The table of measured runs: experiments/results/*.json beside the numbers of the papers.

Each run is one file, `<experiment>.<function>.<dataset>.s<seed>.json` (`<dataset>-<split>` where the split is not
test). The papers' numbers stand in the experiment files and are read there without running them:

    CITATION = "Tanti et al. 2018"
    PAPER = {"merge": {"cider": 46.9, "parameters": 1.60e6}}    a function, or "function.dataset"
"""

import ast
import collections
import dataclasses
import json
import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- results -->", "<!-- /results -->"
NAMES = {  # what a metric is called in the table, in the order in which it is shown
    "facts_right": "facts right",
    "cider": "CIDEr",
    "cider_d": "CIDEr-D",
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "many_shot": "many-shot accuracy",
    "medium_shot": "medium-shot accuracy",
    "few_shot": "few-shot accuracy",
    "vqa_accuracy": "VQA accuracy",
    "wups_0.9": "WUPS 0.9",
    "wups_0.0": "WUPS 0.0",
    "accuracy_majority": "majority's accuracy",
    "macro_f1": "macro F1",
    "accuracy_existence": "accuracy, existence",
    "accuracy_count": "accuracy, count",
    "accuracy_color": "accuracy, color",
    "accuracy_shape": "accuracy, shape",
    "accuracy_size": "accuracy, size",
    "accuracy_relation": "accuracy, relation",
    "accuracy_comparison": "accuracy, comparison",
    "accuracy_object": "accuracy, object",
    "accuracy_number": "accuracy, number",
    "analogies": "analogies",
    "spearman": "Spearman",
    "coverage": "covered",
    "uas": "UAS",
    "las": "LAS",
    "image_to_text_r1": "image to text R@1",
    "text_to_image_r1": "text to image R@1",
    "mean_recall": "mean recall",
    "image_to_text_r5": "image to text R@5",
    "image_to_text_r10": "image to text R@10",
    "text_to_image_r5": "text to image R@5",
    "text_to_image_r10": "text to image R@10",
    "image_to_text_median_rank": "image to text median rank",
    "text_to_image_median_rank": "text to image median rank",
    "zero_shot_number_accuracy": "zero-shot accuracy, number",
    "zero_shot_color_accuracy": "zero-shot accuracy, colour",
    "clip_score": "CLIPScore",
    "ref_clip_score": "RefCLIPScore",
    "cider_gain": "CIDEr gain",
    "bad_endings": "bad endings",
    "repeating": "repeating",
    "prompt_holds": "prompt holds",
    "best_of_8_prompt_holds": "prompt holds, best of 8",
    "prompt_facts": "facts of the prompt",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "codes_used": "codes used",
    "code_perplexity": "perplexity of codes",
    "class_consistency": "class consistency",
    "prompts_kept": "prompts kept by captions",
    "facts_kept": "facts kept by captions",
    "frechet_distance": "Fréchet distance, in-domain",
    "frechet_samples": "samples of it",
    "copies": "copies",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
    "loss": "loss",
}
_WITHOUT_PAPER = 3  # metrics shown of a run that no paper has numbers for
_TYPES = {
    "experiment": str,
    "function": str,
    "dataset": str,
    "split": str,
    "seed": int,
    "commit": str | None,
    "command": str,
    "device": str,
    "hours": int | float | None,
    "parameters": int,
    "metrics": dict,
}
_OPTIONAL = {"recorded": str, "signature": str}


class MalformedResult(ValueError):
    """A result or experiment file that cannot be part of the table; the message names it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
    """What an experiment file says of its paper."""

    experiment: str
    citation: str
    numbers: Mapping[str, Mapping[str, float]]  # function, or function.dataset -> metric -> number


# Metrics of which the hundredths are shown.
FINER = ("perplexity", "bits_per_byte", "loss", "frechet_distance")


def results_table(folder: str | os.PathLike, experiments: str | os.PathLike | None = None) -> str:
    """The markdown table of the results in `folder`; the experiment files lie above it, if not said otherwise.

    Ours is the mean +- the standard deviation (n - 1) over seeds. What a paper reports and nobody has measured
    here is "not run". What a study (`<name>_study`) compares stands in the study's own table, and here only where a
    paper has a number for it. Of the folds of a cross-validation (data sets `mr_fold0`, `mr_fold1` ...) a seed has the mean.
    """
    folder = Path(folder)
    papers = read_papers(experiments if experiments is not None else folder.parent)
    runs = collections.defaultdict(list)
    for result in _folds_together(read_results(folder)):
        key = tuple(result[name] for name in ("experiment", "function", "dataset", "split"))
        runs[key].append(result)
    lines = [
        "| paper | experiment | data | metric | paper's | ours | seeds | parameters | hours |",
        "|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for key in sorted(runs):
        paper = papers.get(key[0])
        if key[0].endswith("_study") and not _theirs(paper, *key[1:3]):
            continue
        lines += _rows(*key, runs[key], paper)
    for paper in papers.values():
        done = {(function, dataset) for e, function, dataset, _ in runs if e == paper.experiment}
        for entry, numbers in paper.numbers.items():
            function, _, dataset = entry.partition(".")
            if not any(f == function and dataset in ("", d) for f, d in done):
                lines += _not_run(paper, function, dataset, numbers)
    return "\n".join(lines) + "\n"


def read_results(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """Every result of the folder, checked. Raises MalformedResult, naming the file and what is wrong with it."""
    return [_read_result(path) for path in sorted(Path(folder).glob("*.json"))]


def read_papers(folder: str | os.PathLike) -> dict[str, Paper]:
    """PAPER and CITATION of every experiment file in the folder that has a PAPER, by the file's name."""
    papers = {}
    for path in sorted(Path(folder).glob("*.py")):
        constants = _constants(path, ("PAPER", "CITATION"))
        if "PAPER" not in constants:
            continue
        numbers, citation = constants["PAPER"], constants.get("CITATION")
        if not isinstance(citation, str):
            raise MalformedResult(f"{path}: has a PAPER but no CITATION = 'Author et al. year'")
        if not (isinstance(numbers, dict) and all(map(_is_numbers, numbers.values()))):
            raise MalformedResult(
                f"{path}: PAPER is not {{function: {{metric: number}}}}: {numbers!r}"
            )
        papers[path.stem] = Paper(experiment=path.stem, citation=citation, numbers=numbers)
    return papers


def with_table(text: str, table: str, name: str = "README.md") -> str:
    """`text` with what stands between the two markers replaced by the table."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise MalformedResult(f"{name}: expected one {BEGIN} and, after it, one {END}")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}{END}{rest.partition(END)[2]}"


# ---- rows


def _folds_together(results: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """The results, those of the folds of one seed as one: `mr (10 folds)`, with the means and the sum of the hours."""
    folds = collections.defaultdict(list)
    for result in results:
        dataset, fold, number = result["dataset"].rpartition("_fold")
        if not (fold and number.isdigit()):
            yield result
            continue
        key = (dataset, *(result[name] for name in ("experiment", "function", "split", "seed")))
        folds[key].append(result)
    for (dataset, *_), parts in folds.items():
        shared = set.intersection(*(set(part["metrics"]) for part in parts))
        metrics = {n: statistics.fmean(p["metrics"][n] for p in parts) for n in sorted(shared)}
        hours = [part["hours"] for part in parts if part["hours"] is not None]
        yield {
            **parts[0],
            "dataset": f"{dataset} ({len(parts)} folds)",
            "metrics": metrics,
            "hours": sum(hours) if hours else None,
        }


def _rows(
    experiment: str,
    function: str,
    dataset: str,
    split: str,
    results: Sequence[Mapping[str, Any]],
    paper: Paper | None,
) -> Iterable[str]:
    theirs = _theirs(paper, function, dataset) if split == "test" else None  # papers report on test
    measured = {name for result in results for name in result["metrics"]}
    if theirs:
        names = [name for name in theirs if name != "parameters"]
    else:
        known = [name for name in NAMES if name in measured and name not in ("cider_d", "loss")]
        names = (known or sorted(measured))[:_WITHOUT_PAPER]
    parameters = _span(_short(result["parameters"]) for result in results)
    if theirs and "parameters" in theirs:
        parameters += f" ({_short(theirs['parameters'])})"
    hours = [result["hours"] for result in results if result["hours"] is not None]
    for row, name in enumerate(names):
        values = [result["metrics"][name] for result in results if name in result["metrics"]]
        first = row == 0
        yield _line(
            paper.citation if first and theirs else "",
            f"`{experiment}.{function}`" if first else "",
            f"{dataset} {split}" if first else "",
            NAMES.get(name, name),
            _decimals(name, theirs[name]) if theirs else "-",
            mean_and_deviation(name, values),
            str(len(values)) if values else "",
            parameters if first else "",
            f"{statistics.fmean(hours):.2f}" if first and hours else "",
        )


def _theirs(paper: Paper | None, function: str, dataset: str) -> Mapping[str, float] | None:
    numbers = paper.numbers if paper else {}
    return numbers.get(f"{function}.{dataset}", numbers.get(function))


def _not_run(
    paper: Paper, function: str, dataset: str, numbers: Mapping[str, float]
) -> Iterable[str]:
    names = [name for name in numbers if name != "parameters"]
    for row, name in enumerate(names):
        about = (
            (paper.citation, f"`{paper.experiment}.{function}`", dataset) if row == 0 else ("",) * 3
        )
        theirs = _decimals(name, numbers[name])
        yield _line(*about, NAMES.get(name, name), theirs, "not run", "", "", "")


def mean_and_deviation(name: str, values: Sequence[float]) -> str:
    """`47.2 ± 0.8` of several values, `47.2` of one, `not run` of none."""
    if not values:
        return "not run"
    mean = _decimals(name, statistics.fmean(values))
    return f"{mean} ± {_decimals(name, statistics.stdev(values))}" if len(values) > 1 else mean


def _decimals(name: str, value: float) -> str:
    if name == "frechet_samples":
        return f"{value:,.0f}"
    return f"{value:.2f}" if name in FINER else f"{value:.1f}"


def _short(count: float) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:.0f}"


def _span(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"


# ---- files


def _read_result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MalformedResult(f"{path}: not JSON ({error})") from None
    if not isinstance(result, dict):
        raise MalformedResult(f"{path}: expected an object, found {type(result).__name__}")
    missing = sorted(_TYPES.keys() - result.keys())
    unknown = sorted(result.keys() - _TYPES.keys() - _OPTIONAL.keys())
    if missing or unknown:
        raise MalformedResult(
            f"{path}: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}"
        )
    for key, kind in {**_TYPES, **_OPTIONAL}.items():
        value = result.get(key, "")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise MalformedResult(f"{path}: {key!r} is {value!r}, expected {kind}")
    if not result["metrics"] or not _is_numbers(result["metrics"]):
        raise MalformedResult(
            f"{path}: metrics are {result['metrics']!r}, expected finite numbers by name"
        )
    split = "" if result["split"] == "test" else f"-{result['split']}"
    expected = "{experiment}.{function}.{dataset}{0}.s{seed}.json".format(split, **result)
    if path.name != expected:
        raise MalformedResult(f"{path}: its content says that it is {expected}")
    return result


def _is_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str)
        and isinstance(number, int | float)
        and not isinstance(number, bool)
        and math.isfinite(number)
        for name, number in value.items()
    )


def _constants(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """The literal values of the module-level constants, without importing the module."""
    found = {}
    for statement in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else ()
        if isinstance(statement, ast.AnnAssign):
            targets = (statement.target,)
        for target in targets:
            if isinstance(target, ast.Name) and target.id in names and statement.value is not None:
                try:
                    found[target.id] = ast.literal_eval(statement.value)
                except ValueError:
                    raise MalformedResult(
                        f"{path}, line {statement.lineno}: {target.id} must be written out as a literal"
                    ) from None
    return found
