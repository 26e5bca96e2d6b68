"""A model whose parameters are held in another form than its own, and which is used like any other model."""

import dataclasses
from typing import Any

import flax.linen as nn

from vlm_jax.types import Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapted:
    """Stands in the place of `model`: it has its `init` and `apply`, and all its other attributes.

    Tasks, decoding and the loop see no difference; what they hand on as `variables` is in this form.
    """

    model: nn.Module

    def init(self, key: Any, *args: Any, **kwargs: Any) -> Variables:
        raise NotImplementedError

    def apply(self, variables: Variables, *args: Any, **kwargs: Any) -> Any:
        """What `model.apply` gives for `plain(variables)`."""
        raise NotImplementedError

    def plain(self, variables: Variables) -> Variables:
        """The variables of `model` itself."""
        raise NotImplementedError

    def holding(self, variables: Variables, plain: Variables) -> Variables:
        """`variables`, as they were drawn, with the values of `plain` to begin from."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        if name == "model" or name.startswith("__"):  # asked for before there are fields
            raise AttributeError(name)
        return getattr(self.model, name)
