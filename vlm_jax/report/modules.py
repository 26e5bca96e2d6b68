"""The table that `describe` prints: every module, its output shape, its parameters, the work of one example."""

from typing import Any

import jax

from vlm_jax.types import Batch

Row = tuple[str, str, str, int, float | None]


def module_table(model: Any, batch: Batch) -> str:
    """Modules as rows: path, class, output shapes, parameters, FLOPs of a forward pass of one example.

    `batch` is any batch that the model takes; only its first row is used. Parameters and FLOPs of a row
    contain those of the rows below it. FLOPs are what XLA's cost analysis counts before optimisation (a
    multiplication and an addition are two); "-" where it gives none. Nothing is computed.
    """
    rows = list(_rows(model, {name: array[:1] for name, array in batch.items()}))
    head = ("module", "class", "output", "parameters", "FLOPs / example")
    lines = [
        (path, kind, shape, f"{count:,}", _si(flops)) for path, kind, shape, count, flops in rows
    ]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(5)]

    def written(line):
        left = [cell.ljust(width) for cell, width in zip(line[:3], widths)]
        right = [cell.rjust(width) for cell, width in zip(line[3:], widths[3:])]
        return "  ".join(left + right).rstrip()

    rule = "-" * len(written(head))
    return "\n".join([written(head), rule, *map(written, lines)])


def _rows(model: Any, batch: Batch):
    from flax.linen import summary

    table = summary._get_module_table(
        model,
        depth=None,
        show_repeated=False,
        compute_flops=True,
        compute_vjp_flops=False,
    )(jax.random.key(0), batch, train=False)
    init = lambda key: model.init(key, batch, train=False)  # noqa: E731
    params = jax.eval_shape(init, jax.random.key(0)).get("params", {})
    for row in table:
        below = params
        for name in row.path:
            below = below.get(name, {})
        count = sum(leaf.size for leaf in jax.tree.leaves(below))
        path = "/".join(row.path) or "(all)"
        yield path, row.module_copy.__class__.__name__, _shapes(row.outputs), count, row.flops


def _shapes(outputs: Any) -> str:
    arrays = [leaf for leaf in jax.tree.leaves(outputs) if hasattr(leaf, "shape")]
    return " ".join(str(list(array.shape)) for array in arrays[:2])


def _si(number: float | None) -> str:
    if number is None or number <= 0:
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return f"{number:.4g}"
