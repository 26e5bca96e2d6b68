"""The result file of a measured run, experiments/results/<experiment>.<function>.<dataset>.s<seed>.json.

`results.py` reads these files back and makes the table of them.
"""

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_results(
    folder: str | os.PathLike,
    run: Mapping[str, Any],
    measured: Iterable[tuple[Any, Mapping[str, float]]],
) -> list[Path]:
    """Writes one file a data set and split; returns their paths.

    `run` has experiment, function, seed, commit, command, device, hours and parameters; `measured` are evaluations
    with their numbers. `signature`, where the run has one, says how the metrics were computed. Evaluations of one split
    (captions of pictures, perplexity of pairs) share its file, and a file of the same run that is there already keeps
    its other metrics.
    """
    paths = []
    for evaluation, numbers in measured:
        dataset, split = dataset_and_split(evaluation)
        result = {
            "experiment": run["experiment"],
            "function": run["function"],
            "dataset": dataset,
            "split": split,
            "seed": run["seed"],
            "commit": run["commit"],
            "command": run["command"],
            "device": run["device"],
            "hours": run["hours"],
            "parameters": run["parameters"],
            **({"signature": run["signature"]} if "signature" in run else {}),
        }
        name = "{experiment}.{function}.{dataset}{0}.s{seed}.json".format(
            "" if split == "test" else f"-{split}", **result
        )
        path = Path(folder) / name
        metrics = _present_metrics(path, result) | _finite(evaluation.name, numbers)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**result, "metrics": metrics}, indent=1) + "\n")
        paths.append(path)
    return list(dict.fromkeys(paths))


def dataset_and_split(evaluation: Any) -> tuple[str, str]:
    """What a result file calls the data of an evaluation: ('flickr8k', 'test'), ('scenes_tiny', 'test[:100]').

    Raises ValueError for what is not the whole of a named split.
    """
    source, cut = evaluation.data.source, ""
    while hasattr(source, "source"):
        cut = f"[:{source.count}]" if hasattr(source, "count") else cut  # First
        source = source.source
    name, split = getattr(source, "name", None), getattr(source, "split", None)
    if name is None or split is None:
        raise ValueError(
            f"{evaluation.name} is measured on {type(source).__name__} and cannot be recorded; expected a data set "
            "with name and split, as Tfds"
        )
    if evaluation.max_batches is not None:
        raise ValueError(
            f"{evaluation.name} sees its first {evaluation.max_batches} batches only and cannot be recorded; set its "
            "max_batches to none, or leave it out with --only"
        )
    configuration = getattr(source, "config", None)
    dataset = name if configuration in (None, "default") else f"{name}_{configuration}"
    return dataset, split + cut


def hours_of_training(path: str | os.PathLike) -> float | None:
    """The hours that the steps of a run took, from its metrics.jsonl; None where nothing was logged.

    Each line of 'train' has the rate since the line before, compilation counted, evaluations and saves not. Steps
    that a killed run lost are not in the file, so it makes no difference how often a run went on. Steps after the
    last of these lines count at its rate.
    """
    seconds, last, rate, step = 0.0, 0, None, 0
    for line in _lines(path):
        step = max(step, line["step"])
        if line["name"] == "train" and "steps_per_second" in line:
            rate = float(line["steps_per_second"])
            seconds += (line["step"] - last) / rate
            last = line["step"]
    if rate is None:
        return None
    return float(f"{(seconds + (step - last) / rate) / 3600:.3g}")


def rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    """Five figures each, by name."""
    return {name: float(f"{value:.5g}") for name, value in sorted(numbers.items())}


def _lines(path: str | os.PathLike) -> list[dict[str, Any]]:
    if not Path(path).is_file():
        return []
    whole = Path(path).read_bytes().split(b"\n")[:-1]  # a killed run may leave half a line
    return [json.loads(line) for line in whole]


def _present_metrics(path: Path, result: Mapping[str, Any]) -> dict[str, float]:
    """The metrics in the file, where everything else in it is the same."""
    try:
        present = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    metrics = present.pop("metrics", {})
    other = sorted(key for key in {*present, *result} if present.get(key) != result.get(key))
    if other:
        print(f"{path}: written anew, of another {', '.join(other)}", file=sys.stderr)
    return {} if other else metrics


def _finite(name: str, numbers: Mapping[str, float]) -> dict[str, float]:
    for key, value in numbers.items():
        if not math.isfinite(value):
            print(f"{name}: {key} is {value} and not recorded", file=sys.stderr)
    return rounded({key: value for key, value in numbers.items() if math.isfinite(value)})
