"""Many runs of one experiment file, one after another: what a study's one command does.

    python -m experiments.regularisation_study all --workdir runs/regularisation --seeds 0,1,2

Each is an ordinary run of the file's command line, in WORKDIR/<function>.s<seed>, with its result file; a run whose
file is there is not done again, and one that was stopped goes on. Table and picture are made of the files.
"""

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_jax import main as command_line
from vlm_jax.commands.command import RESULTS
from vlm_jax.report import results as result_files
from vlm_jax.report import study


def main(
    *functions: Callable[[], Any],
    argv: Sequence[str] | None = None,
    dataset: str | None = None,
    title: str,
    more: Mapping[str, tuple[str, str]] = {},
    **what,
) -> int:
    """The command line of an experiment file; where the first word is `all`, every function but `smoke` is run and compared.

    `dataset`, as result files call it, where the functions can be run on several: `more` are the others, by what their
    argument `data` is given, each with its name in result files and the title of its table. `all --data` chooses one.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] != ["all"]:
        return command_line.main(*functions, argv=argv)
    parser = argparse.ArgumentParser(prog="all", description=__doc__)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--results", default=RESULTS, help="where the result files are")
    parser.add_argument("--only", help="names of functions, separated by commas")
    if more:
        parser.add_argument("--data", choices=(dataset, *more), default=dataset)
    options = parser.parse_args(argv[1:])
    data = getattr(options, "data", dataset)
    arguments, suffix = {}, ""
    if data in more:
        arguments, suffix = {"data": data}, f".{data}"
        dataset, title = more[data]
    chosen = [f for f in functions if f.__name__ != "smoke"]
    names = options.only.split(",") if options.only else [f.__name__ for f in chosen]
    for seed in map(int, options.seeds.split(",")):  # a whole table first, then the next seed
        for name in names:
            places = Path(options.workdir), Path(options.results)
            code = run(functions, name, seed, *places, dataset=dataset, arguments=arguments)
            if code:
                return code
    names = [f.__name__ for f in chosen]
    what |= {"title": title, "folder": Path(options.results), "suffix": suffix}
    compare(functions, names=names, dataset=dataset, **what)
    return 0


def run(
    functions: Sequence[Callable[[], Any]],
    name: str,
    seed: int,
    workdir: Path,
    results: Path,
    *,
    dataset: str | None = None,
    arguments: Mapping[str, str] = {},
    unnamed: Mapping[str, str] = {},
    tests: str = "test",
) -> int:
    """Trains and records one function with one seed, unless that is done. Returns the exit code.

    `arguments` are those of the function, which stand in the name of the workdir, `unnamed` those that do not; `tests` are the evaluations that are
    recorded. `dataset` is how the result file calls its data, with the split where several are recorded: the last.
    """
    experiment = name_of(functions)
    called = " ".join([name, *arguments.values(), f"seed {seed}"])
    if any(results.glob(f"{experiment}.{name}.{dataset or '*'}.s{seed}.json")):
        print(f"{called}: recorded already", flush=True)
        return 0
    print(called, flush=True)
    place = workdir / ".".join([name, *arguments.values(), f"s{seed}"])
    where = ["--workdir", str(place)]
    given = [
        word for key, value in {**arguments, **unnamed}.items() for word in (f"--{key}", value)
    ]
    argv = [name, "train", *given, *where, "--seed", str(seed)]
    code = command_line.main(*functions, argv=argv)
    if code or not finished(place):  # stopped by a signal: all of it stops
        return code or 130
    argv = [name, "evaluate", "--only", tests, "--record", str(results), *where]
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
    dataset: str | None = None,
    others: Sequence[str] = (),
    suffix: str = "",
) -> None:
    """Writes <experiment><suffix>.md and .png beside the result files, and prints the table."""
    experiment = name_of(functions)
    found = result_files.read_results(folder)
    rows = study.rows_of(found, experiment, names, metric, dataset=dataset, others=others)
    table = study.markdown(rows, metric)
    (folder / f"{experiment}{suffix}.md").write_text(f"{title}\n\n{table}")
    study.write_plot(folder / f"{experiment}{suffix}.png", rows, metric, title)
    print(table)
