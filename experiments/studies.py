"""Many runs of one experiment file, one after another: what a study's one command does.

    python -m experiments.regularisation_study all --workdir runs/regularisation --seeds 0,1,2

Each is an ordinary run of the file's command line, in WORKDIR/<function>.s<seed>, with its result file; a run whose
file is there is not done again, and one that was stopped goes on. Table and picture are made of the files.
"""

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vlm_jax import main as command_line
from vlm_jax.commands.command import RESULTS
from vlm_jax.report import results as result_files
from vlm_jax.report import study


def main(*functions: Callable[[], Any], argv: Sequence[str] | None = None, **what) -> int:
    """The command line of an experiment file; where the first word is `all`, every function but `smoke` is run and compared."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] != ["all"]:
        return command_line.main(*functions, argv=argv)
    parser = argparse.ArgumentParser(prog="all", description=__doc__)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--results", default=RESULTS, help="where the result files are")
    parser.add_argument("--only", help="names of functions, separated by commas")
    options = parser.parse_args(argv[1:])
    chosen = [f for f in functions if f.__name__ != "smoke"]
    names = options.only.split(",") if options.only else [f.__name__ for f in chosen]
    for seed in map(int, options.seeds.split(",")):  # a whole table first, then the next seed
        for name in names:
            code = run(functions, name, seed, Path(options.workdir), Path(options.results))
            if code:
                return code
    compare(functions, names=[f.__name__ for f in chosen], folder=Path(options.results), **what)
    return 0


def run(
    functions: Sequence[Callable[[], Any]], name: str, seed: int, workdir: Path, results: Path
) -> int:
    """Trains and records one function with one seed, unless that is done. Returns the exit code."""
    experiment = name_of(functions)
    if any(results.glob(f"{experiment}.{name}.*.s{seed}.json")):
        print(f"{name} seed {seed}: recorded already", flush=True)
        return 0
    print(f"{name} seed {seed}", flush=True)
    place = ["--workdir", str(workdir / f"{name}.s{seed}")]
    code = command_line.main(*functions, argv=[name, "train", *place, "--seed", str(seed)])
    if code or not finished(workdir / f"{name}.s{seed}"):  # stopped by a signal: all of it stops
        return code or 130
    argv = [name, "evaluate", *place, "--only", "test", "--record", str(results)]
    return command_line.main(*functions, argv=argv)


def finished(workdir: Path) -> bool:
    """Whether the run came to its end, where it is tested."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return any(json.loads(line)["name"] == "test" for line in lines)


def name_of(functions: Sequence[Callable[[], Any]]) -> str:
    """The experiment file that they are from, also where it is run with `python -m`."""
    return inspect.getmodule(functions[0]).__spec__.name.rpartition(".")[2]


def compare(
    functions: Sequence[Callable[[], Any]],
    *,
    names: Sequence[str],
    folder: Path,
    metric: str,
    title: str,
) -> None:
    """Writes <experiment>.md and <experiment>.png beside the result files, and prints the table."""
    experiment = name_of(functions)
    rows = study.rows_of(result_files.read_results(folder), experiment, names, metric)
    table = study.markdown(rows, metric)
    (folder / f"{experiment}.md").write_text(f"{title}\n\n{table}")
    study.write_plot(folder / f"{experiment}.png", rows, metric, title)
    print(table)
