"""The linear layers of a model, and which axes of their kernels are inputs."""

import contextlib
from collections.abc import Iterator

import flax.linen as nn


@contextlib.contextmanager
def layers_noted() -> Iterator[dict[str, nn.Module]]:
    """Fills a dictionary with the linear layers that are called meanwhile, by their paths: 'decoder/Dense_0'.

    They are Dense, DenseGeneral and Conv without groups; a kernel of theirs is [*in *out].
    """
    found: dict[str, nn.Module] = {}

    def note(call, arguments, options, context):
        layer = context.module
        linear = isinstance(layer, nn.Dense | nn.DenseGeneral | nn.Conv)
        if linear and context.method_name == "__call__" and not _grouped(layer):
            found["/".join(layer.path)] = layer
        return call(*arguments, **options)

    with nn.intercept_methods(note):
        yield found


def output_axes(layer: nn.Module) -> int:
    """How many of the last axes of the layer's kernel are outputs."""
    return len(layer.features) if isinstance(layer.features, tuple | list) else 1


def _grouped(layer: nn.Module) -> bool:
    """Whether an output sees not all of the inputs, or each example has a kernel of its own."""
    return getattr(layer, "feature_group_count", 1) != 1 or bool(getattr(layer, "batch_dims", ()))
