"""A network that a task looks through and does not train."""

from collections.abc import Callable

import jax
import numpy as np

from vlm_jax.types import Variables


def frozen(
    init: Callable[[], Variables], init_params: Callable[[Variables], Variables] | None
) -> Variables:
    """What `init` draws, or `init_params` makes of it, as numpy arrays, which a traced function takes for constants."""
    with jax.ensure_compile_time_eval():
        variables = init()
        if init_params is not None:
            variables = init_params(variables)
        return jax.tree.map(np.asarray, variables)
