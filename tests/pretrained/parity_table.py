"""Prints the README's table of published families: how far ours are from what transformers computes.

python -m tests.pretrained.parity_table
"""

import tempfile
from pathlib import Path

from tests.pretrained import published

TEXTS = ("captions", "answers")  # names of stored arrays that are greedy tokens


def main() -> None:
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(published.STORED.iterdir()):
            given = published.Stored(path.name)
            loaded = published.loaded(path.name, Path(folder))
            architecture = given.config["architectures"][0]
            found.setdefault(architecture, []).append(published.compare(given, loaded))
    print("| architecture | configurations | states | logits | greedy tokens |")
    print("|---|---:|---:|---:|---|")
    for architecture, differences in sorted(found.items()):
        print(row(architecture, differences))


def row(architecture: str, differences: list[dict[str, float]]) -> str:
    """The largest difference over all configurations, of hidden states and of logits."""

    def largest(chosen) -> str:
        values = [value for each in differences for name, value in each.items() if chosen(name)]
        return f"{max(values):.0e}" if values else "-"

    texts = [value for each in differences for name, value in each.items() if name in TEXTS]
    equal = "-" if not texts else "equal" if max(texts) == 0 else "differ"
    states = largest(lambda name: name not in ("logits", *TEXTS))
    logits = largest(lambda name: name == "logits")
    return f"| `{architecture}` | {len(differences)} | {states} | {logits} | {equal} |"


if __name__ == "__main__":
    main()
