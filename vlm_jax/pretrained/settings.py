"""A published config.json, of which only named numbers, words and switches are read."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from vlm_jax.layers.activations import exact_gelu, quick_gelu
from vlm_jax.pretrained.places import Place, TokenRows

T = TypeVar("T")
_MISSING = object()
# They say nothing of what is computed from the inputs that we give, so nobody is told that they were ignored.
_ABOUT = frozenset(
    (
        "architectures",
        "model_type",
        "transformers_version",
        "torch_dtype",
        "dtype",
        "_name_or_path",
        "use_cache",
    )
)


# What `hidden_act` and its siblings are called there.
ACTIVATIONS: Mapping[str, Callable] = {
    "gelu": exact_gelu,
    "gelu_new": nn.gelu,
    "gelu_pytorch_tanh": nn.gelu,
    "gelu_fast": nn.gelu,
    "quick_gelu": quick_gelu,
    "relu": nn.relu,
    "relu6": nn.relu6,
    "silu": nn.silu,
    "swish": nn.silu,
    "tanh": nn.tanh,
}


class Family(NamedTuple):
    """A published model as ours: the module, where its parameters come from, and what it is tried on.

    `example` are its arguments as shapes (jax.ShapeDtypeStruct), which `method` takes: enough to know all parameters.
    `heads` are parts that only some of the models have: where ours has no parameters below 'head/', the tensors of
    those places are left in the file. `older` are (regular expression, replacement) of the file's names: where it has not
    a name but has what these make of it, that is meant. `template` is the prompt that the weights were trained on, as
    data.prompted.Prompt has it, with {question} for what is asked, and `special` are its special tokens; None where a text is
    written without one. `lead` is what was written before the first word of an answer.
    """

    model: nn.Module
    places: tuple[Place, ...]
    example: tuple[Any, ...]
    method: str = "__call__"
    heads: tuple[str, ...] = ()
    older: tuple[tuple[str, str], ...] = ()
    template: str | None = None
    special: tuple[str, ...] = ()
    lead: str = ""


class Settings:
    """Reads whitelisted keys of a configuration, each of one kind, and knows which ones were left.

    Many files leave out what is the library's default, so every key that has one is asked for with it. ValueError
    names the key, what stands there, and what may. `tokenizer` is the TokenizerFile whose rows the tables get.
    """

    def __init__(self, config: Mapping[str, Any], tokenizer: Any = None, name: str = "config.json"):
        self._config, self._tokenizer, self._name = config, tokenizer, name
        self._read, self._inner = set(), []

    def integer(self, key: str, default: int | None = _MISSING) -> int:
        """A whole number, 0 or more; None only where that is the default."""
        most = most_of(key)
        what = f"a whole number, at most {most:,}"
        return self._of_type(key, default, int, lambda value: 0 <= value <= most, what)

    def number(self, key: str, default: float | None = _MISSING) -> float:
        found = self._of_type(key, default, int | float, lambda value: value == value, "a number")
        return found if found is None else float(found)

    def flag(self, key: str, default: bool = _MISSING) -> bool:
        return self._of_type(key, default, bool, lambda value: True, "true or false")

    def integers(self, key: str, default: tuple[int, ...] = _MISSING) -> tuple[int, ...]:
        """Whole numbers; a single one is a tuple of one."""
        found = self._get(key, default)
        found = (found,) if type(found) is int else found
        most = most_of(key)
        whole = isinstance(found, list | tuple) and all(type(n) is int for n in found)
        if not whole or not all(0 <= n <= most for n in found):
            raise self._error(key, found, f"whole numbers, at most {most:,}")
        return tuple(found)

    def numbers(self, key: str, default: tuple[float, ...] = _MISSING) -> tuple[float, ...]:
        found = self._get(key, default)
        if not isinstance(found, list | tuple) or not all(_is_number(x) for x in found):
            raise self._error(key, found, "numbers")
        return tuple(map(float, found))

    def size(self, key: str, default: int = _MISSING) -> tuple[int, int]:
        """(height, width) of one number for both, or of two."""
        found = self.integers(key, default if default is _MISSING else (default,))
        if len(found) not in (1, 2):
            raise self._error(key, found, "one size or (height, width)")
        return (found[0], found[-1])

    def choice(self, key: str, choices: Mapping[str, T], default: str = _MISSING) -> T:
        """What `choices` has for the word at `key`."""
        found = self._get(key, default)
        if not isinstance(found, str) or found not in choices:
            raise self._error(key, found, f"one of {', '.join(sorted(choices))}")
        return choices[found]

    def expect(self, key: str, value: Any, default: Any = _MISSING) -> None:
        """Refuses every setting but `value`: what else it might be, we do not have. Absent, it is `default`."""
        found = self._get(key, value if default is _MISSING else default)
        if found != value or type(found) is not type(value):
            raise self._error(key, found, f"{value!r}, the only one that we have")

    def words(self, key: str) -> tuple[str, ...]:
        """A list of words, such as the architectures; empty where there is none."""
        found = self._get(key, ())
        if not isinstance(found, list | tuple) or not all(isinstance(word, str) for word in found):
            raise self._error(key, found, "a list of words")
        return tuple(found)

    def count(self, key: str, default: int) -> int:
        """How many classes `key`, a mapping such as id2label, has; none of its words is looked at."""
        found = self._get(key, _MISSING) if key in self._config else None
        if found is not None and not isinstance(found, dict | list):
            raise self._error(key, found, "a mapping")
        return default if found is None else len(found)

    def inner(self, key: str) -> "Settings":
        """The configuration inside, such as vision_config; an empty one where there is none."""
        found = self._get(key, {})
        if not isinstance(found, Mapping):
            raise self._error(key, found, "a configuration, {...}")
        inner = Settings(found, self._tokenizer, f"{self._name}: {key}")
        self._inner.append((key, inner))
        return inner

    def token_rows(self, number: int, like: tuple[tuple[int, int], ...] = ()) -> TokenRows:
        """For each row of ours the id in a table of `number` rows, None where the file has none.

        Those of the tokenizer, and at the end the rows that no token has. Without a tokenizer the file's own order.
        `like` are (row, row): where the file has no token for the first, it begins like the second.
        """
        found = self._tokenizer.rows_in_file() if self._tokenizer is not None else ()
        # A special token of another model of the family (Gemma 3's pictures) may have no vector.
        without = {i for i in found if i is not None and i >= number}
        if without - (self._tokenizer.special_in_file() if without else set()):
            raise ValueError(
                f"{self._name}: the tokenizer has id {max(without)}, the table {number} rows; they are of two models"
            )
        found = tuple(None if i in without else i for i in found)
        known = {i for i in found if i is not None}
        ids = (*found, *(i for i in range(number) if i not in known))
        missing = [(row, ids[other]) for row, other in like if ids[row] is None]
        return TokenRows(ids, tuple((row, i) for row, i in missing if i is not None))

    def has(self, key: str) -> bool:
        """Whether the key stands there with something other than null."""
        return self._config.get(key) is not None

    def is_null(self, key: str) -> bool:
        """Whether null stands there."""
        return key in self._config and self._config[key] is None

    def is_mapping(self, key: str) -> bool:
        """Whether what stands there is a configuration of its own, for `inner`."""
        return isinstance(self._config.get(key), Mapping)

    def ignored(self) -> tuple[str, ...]:
        """The keys that nobody asked for, those of inner configurations as 'vision_config.key'."""
        left = [key for key in self._config if key not in self._read and key not in _ABOUT]
        for key, inner in self._inner:
            left += [f"{key}.{name}" for name in inner.ignored()]
        return tuple(sorted(left))

    def _of_type(self, key, default, kind, sound: Callable[[Any], bool], what: str):
        found = self._get(key, default)
        if found is None and default is None:
            return None
        is_bool = isinstance(found, bool) and kind is not bool
        if is_bool or not isinstance(found, kind) or not sound(found):
            raise self._error(key, found, what)
        return found

    def _get(self, key: str, default: Any) -> Any:
        self._read.add(key)
        found = self._config.get(key, default)
        if found is _MISSING:
            raise ValueError(f"{self._name} has no {key!r}, which this architecture needs")
        return found

    def _error(self, key: str, found: Any, expected: str) -> ValueError:
        shown = repr(found)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        return ValueError(f"{self._name}: {key} is {shown}, expected {expected}")


def most_of(key: str) -> int:
    """More than any model has, and so few that a list of as many is soon made."""
    return 1_000 if "layer" in key or key == "depths" else 10_000_000


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and x == x


def image(settings: Settings, size: int = 224) -> jax.ShapeDtypeStruct:
    """A picture of the size and channels that the settings say, as Family.example wants it."""
    height, width = settings.size("image_size", size)
    channels = settings.integer("num_channels", 3)
    return jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
