"""Path rules: regular expressions searched in the names of parameters, such as 'decoder/Dense_0/kernel'."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

import jax

from vlm_jax.train.state import named_leaves, path_name


def matches(rules: tuple[str, ...], tree: Any, *, what: str | None) -> Any:
    """The tree with True where any rule is found in a leaf's path.

    With `what`, the name of the field, a rule that is found in no path is a ValueError.
    """
    found = matched(rules, named_leaves(tree), what=what)
    return jax.tree_util.tree_map_with_path(lambda path, _: path_name(path) in found, tree)


def matched(
    rules: tuple[str, ...], names: Iterable[str], *, what: str | None, of: str = "parameter"
) -> dict[str, int]:
    """The names in which a rule is found, each with the number of the first rule that is.

    With `what`, a rule that is found in none is a ValueError that names the nearest of them; `of` says what they are.
    """
    patterns, names = [re.compile(rule) for rule in rules], list(names)
    for pattern in patterns:
        if what and not any(pattern.search(name) for name in names):
            raise ValueError(
                f"{what}: the rule {pattern.pattern!r} matches no {of}; expected a regular expression "
                f"found in at least one path. Nearest: {', '.join(nearest(pattern.pattern, names))}"
            )
    found = {}
    for name in names:
        first = next((i for i, pattern in enumerate(patterns) if pattern.search(name)), None)
        if first is not None:
            found[name] = first
    return found


def nearest(rule: str, names: Iterable[str], number: int = 6) -> list[str]:
    """The paths that look most like the rule, the likest first."""
    words = re.sub(r"[^\w/]+", "", rule)

    def likeness(name: str) -> float:
        matcher = difflib.SequenceMatcher(None, name, words, autojunk=False)
        return sum(block.size for block in matcher.get_matching_blocks() if block.size > 2)

    return sorted(names, key=lambda name: (-likeness(name), len(name)))[:number]
