"""python -m vlm_jax.report results [--folder experiments/results] [--write README.md | --check README.md]
python -m vlm_jax.report curves WORKDIR"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vlm_jax.report import curves, results


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m vlm_jax.report", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    table = verbs.add_parser(
        "results", help="the table of measured runs beside the papers' numbers"
    )
    table.add_argument("--folder", default="experiments/results", help="where the result files lie")
    table.add_argument(
        "--experiments", help="where the experiment files lie (default: above the results)"
    )
    action = table.add_mutually_exclusive_group()
    action.add_argument(
        "--write", metavar="README", help=f"put the table between {results.BEGIN} and its end"
    )
    action.add_argument(
        "--check", metavar="README", help="leave with 1 if the table there is another"
    )
    drawn = verbs.add_parser("curves", help="curves.png of a run's metrics.jsonl")
    drawn.add_argument("workdir")
    options = parser.parse_args(arguments)
    try:
        return _results(options) if options.verb == "results" else _curves(options)
    except (results.MalformedResult, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _results(options: argparse.Namespace) -> int:
    if not Path(options.folder).is_dir():
        raise FileNotFoundError(f"there is no folder {options.folder}; try --folder")
    table = results.results_table(options.folder, options.experiments)
    if not (options.write or options.check):
        print(table, end="")
        return 0
    path = Path(options.write or options.check)
    present = path.read_text(encoding="utf-8")
    wanted = results.with_table(present, table, str(path))
    if options.write:
        path.write_text(wanted, encoding="utf-8")
    elif present != wanted:
        print(
            f"{path}: its table is not that of {options.folder}; run with --write {path}",
            file=sys.stderr,
        )
        return 1
    return 0


def _curves(options: argparse.Namespace) -> int:
    path = Path(options.workdir) / "curves.png"
    curves.write_curves(Path(options.workdir) / "metrics.jsonl", path)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
