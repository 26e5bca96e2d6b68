"""Pure functions on trees of frozen dataclasses: `override`, `to_json`, `from_json`, `flatten`, `describe`.

An experiment is such a tree (Linen modules are dataclasses too), so nothing here knows what is in it.

    override(experiment, {"model.decoder.width": 512, "evaluations.0.every": 50})
"""

import ast
import collections.abc
import dataclasses
import difflib
import importlib
import inspect
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

# Only names of these packages are looked up when a file is read; nothing else is ever imported.
KNOWN_PACKAGES = ("vlm_jax", "experiments", "flax", "jax", "optax", "numpy", "builtins")
# Where a function that does not know its own public name (`nn.relu` is not a plain function) is found.
_PUBLIC_HOMES = ("flax.linen", "jax.nn", "jax.numpy", "jax.nn.initializers", "optax", "numpy")
_LINEN_FIELDS = ("parent", "name")


def override(config: T, changes: Mapping[str, Any]) -> T:
    """Returns `config` with the values at dotted paths replaced.

    A path names fields and tuple positions: `model.decoder.width`, `evaluations.0.every`. Values may be Python
    objects, or the strings of a command line (`"512"`, `"0.1"`, `"none"`, `"(1, 2)"`, a JSON node).

    Raises KeyError for an unknown path, naming the nearest one, and TypeError for a value that the field's
    annotation does not take, naming both.
    """
    for path, value in changes.items():
        config = _replaced(config, path.split("."), value, path, config)
    return config


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """All overridable paths below `config` with their present values, parents before children."""
    return dict(_walk(config, prefix))


def describe(config: Any) -> str:
    """One line a path: `model.decoder.width = 512`; an object is shown by the name of its class."""
    lines = []
    for path, value in flatten(config).items():
        shown = f"{type(value).__name__}(...)" if is_config(value) else _short(value)
        lines.append(f"{path} = {shown}")
    return "\n".join(lines)


def to_json(config: Any) -> Any:
    """A tree of dicts, lists, strings and numbers; `from_json` gives back an equal object with the same hash.

    Dataclasses become `{"$type": "module:Name", field: value, ...}`, functions and classes `{"$ref": "module:name"}`.
    Raises TypeError, naming the path, for what a configuration may not hold (arrays, dicts, lambdas, lists).
    """
    return _to_json(config, "config")


def from_json(node: Any, *, packages: tuple[str, ...] = KNOWN_PACKAGES) -> Any:
    """The object that `to_json` wrote. Unknown fields and names outside `packages` are refused with ValueError."""
    return _from_json(node, packages, "config")


def is_config(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def fields(config: Any) -> Iterator[dataclasses.Field]:
    """The fields a reader may set: all but Linen's own `parent` and `name`."""
    linen = hasattr(config, "scope")
    for field in dataclasses.fields(config):
        if field.init and not (linen and field.name in _LINEN_FIELDS):
            yield field


def transform(config: T, change) -> T:
    """Returns `config` with `change(node)` applied to every dataclass in it, innermost first."""
    if is_config(config):
        updates = {}
        for field in fields(config):
            old = getattr(config, field.name)
            new = transform(old, change)
            if new is not old:
                updates[field.name] = new
        return change(dataclasses.replace(config, **updates) if updates else config)
    if isinstance(config, tuple) and not hasattr(config, "_fields"):
        new = tuple(transform(item, change) for item in config)
        return new if any(a is not b for a, b in zip(new, config)) else config
    return config


# ---- override


def _replaced(node, keys, value, path, root):
    key, rest = keys[0], keys[1:]
    if isinstance(node, tuple):
        if not key.isdigit() or int(key) >= len(node):
            raise _unknown(path, root)
        items = list(node)
        index = int(key)
        items[index] = (
            _replaced(items[index], rest, value, path, root)
            if rest
            else _converted(value, type(items[index]), items[index], path)
        )
        return tuple(items)
    if not is_config(node) or key not in {field.name for field in fields(node)}:
        raise _unknown(path, root)
    present = getattr(node, key)
    if rest:
        new = _replaced(present, rest, value, path, root)
    else:
        new = _converted(value, _hint(type(node), key), present, path)
    return dataclasses.replace(node, **{key: new})


def _unknown(path: str, root: Any) -> KeyError:
    known = list(flatten(root))
    near = difflib.get_close_matches(path, known, n=3, cutoff=0.5)
    if not near:  # the right name in the wrong place
        leaf = path.split(".")[-1]
        names = {name.split(".")[-1]: name for name in known}
        near = [names[n] for n in difflib.get_close_matches(leaf, names, n=3, cutoff=0.6)]
    hint = f" Nearest: {', '.join(near)}." if near else f" It has: {', '.join(known[:20])} ..."
    return UnknownPath(f"unknown path {path!r} in {type(root).__name__}.{hint}")


class UnknownPath(KeyError):
    def __str__(self) -> str:  # KeyError would print the repr of the message
        return self.args[0]


def _hint(cls: type, name: str) -> Any:
    try:
        return typing.get_type_hints(cls).get(name, Any)
    except Exception:  # an annotation that only a type checker understands
        for base in cls.__mro__:
            if name in base.__dict__.get("__annotations__", {}):
                annotation = base.__annotations__[name]
                return annotation if not isinstance(annotation, str) else Any
        return Any


def _converted(value, hint, present, path):
    candidates = [value]
    if isinstance(value, str):
        candidates = list(_readings(value, present)) or [value]
        if hint is Any or hint is object:
            return candidates[0]
    for candidate in candidates:
        ok, result = _matches(candidate, hint)
        if ok:
            return result
    raise TypeError(
        f"{path}: given {value!r} ({type(value).__name__}), expected {_hint_name(hint)}; "
        f"it is now {_short(present)}"
    )


def _readings(text: str, present: Any) -> Iterator[Any]:
    """What a string of the command line may mean, likeliest first."""
    lowered = text.strip().lower()
    if lowered in ("none", "null"):
        yield None
    if lowered in ("true", "false"):
        yield lowered == "true"
    if text.lstrip().startswith(("{", "[")):
        try:
            yield _from_json(json.loads(text), KNOWN_PACKAGES, "value")
        except (json.JSONDecodeError, TypeError):
            pass
    try:
        yield _tuples(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    if callable(present) and not is_config(present):
        module, _, name = text.replace(":", ".").rpartition(".")
        try:
            yield _resolve(f"{module}:{name}", KNOWN_PACKAGES, "value")
        except ValueError:
            pass
    yield text


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def _matches(value: Any, hint: Any) -> tuple[bool, Any]:
    """Whether `value` fits the annotation, and the value with ints made floats and lists made tuples where due."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is object or isinstance(hint, TypeVar):
        return True, value
    if hint is None or hint is type(None):
        return value is None, value
    if origin in (typing.Union, types.UnionType):
        exact = [a for a in args if isinstance(a, type) and type(value) is a]
        for option in (*exact, *args):
            ok, result = _matches(value, option)
            if ok:
                return True, result
        return False, value
    if origin is typing.Literal:
        return value in args, value
    if origin is typing.Annotated:
        return _matches(value, args[0])
    if origin is tuple or hint is tuple:
        if not isinstance(value, tuple | list):
            return False, value
        if not args:
            return True, tuple(value)
        wanted = [args[0]] * len(value) if len(args) == 2 and args[1] is ... else list(args)
        if len(wanted) != len(value):
            return False, value
        pairs = [_matches(v, a) for v, a in zip(value, wanted)]
        return all(ok for ok, _ in pairs), tuple(v for _, v in pairs)
    if origin is collections.abc.Callable or hint in (
        collections.abc.Callable,
        typing.Callable,
    ):
        return callable(value), value
    if origin is type:
        return isinstance(value, type), value
    if origin is not None:
        hint = origin
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number, float(value) if number else value
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if isinstance(hint, type):
        if getattr(hint, "_is_protocol", False):
            return is_config(value) or callable(value), value
        try:
            return isinstance(value, hint), value
        except TypeError:  # not a class that isinstance knows
            return True, value
    return True, value


def _hint_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _short(value: Any) -> str:
    if callable(value) and not is_config(value):
        return getattr(value, "__name__", repr(value))
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _walk(node, prefix):
    if is_config(node):
        children = ((field.name, getattr(node, field.name)) for field in fields(node))
    elif isinstance(node, tuple) and any(is_config(item) for item in node):
        children = ((str(i), item) for i, item in enumerate(node))
    else:
        return
    for name, child in children:
        path = f"{prefix}.{name}" if prefix else name
        yield path, child
        yield from _walk(child, path)


# ---- JSON


def _to_json(value, path):
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return [_to_json(item, f"{path}.{i}") for i, item in enumerate(value)]
    if is_config(value):
        node = {"$type": _name_of(type(value), path)}
        for field in fields(value):
            child = getattr(value, field.name)
            if child is field.default and _is_closure(child):
                continue  # Linen's default initialisers have no name; leaving them out restores them
            node[field.name] = _to_json(child, f"{path}.{field.name}")
        if hasattr(value, "scope") and getattr(value, "name", None) is not None:
            node["name"] = value.name
        return node
    if callable(value):
        return {"$ref": _name_of(value, path)}
    raise TypeError(
        f"{path}: a configuration cannot hold {value!r} ({type(value).__name__}); use numbers, strings, "
        "tuples, named functions and frozen dataclasses"
    )


def _is_closure(value):
    return callable(value) and "<locals>" in getattr(value, "__qualname__", "")


def _from_json(node, packages, path):
    if isinstance(node, list):
        return tuple(_from_json(item, packages, f"{path}.{i}") for i, item in enumerate(node))
    if not isinstance(node, dict):
        return node
    if "$float" in node:
        return float(node["$float"])
    if "$ref" in node:
        return _resolve(node["$ref"], packages, path)
    if "$type" not in node:
        raise ValueError(f"{path}: expected a $type, got the keys {sorted(node)}")
    cls = _resolve(node["$type"], packages, path)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ValueError(f"{path}: {node['$type']} is not a dataclass")
    known = {field.name for field in dataclasses.fields(cls) if field.init}
    values = {}
    for name, child in node.items():
        if name == "$type":
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; nearest: {near[0]}" if near else ""
            raise ValueError(f"{path}: {node['$type']} has no field {name!r}{hint}")
        values[name] = _from_json(child, packages, f"{path}.{name}")
    return cls(**values)


def _name_of(value, path):
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module and name and "<" not in name and _lookup(module, name) is value:
        return f"{module}:{name}"
    short = getattr(value, "__name__", name)
    for home in _PUBLIC_HOMES:
        if short and _lookup(home, short) is value:
            return f"{home}:{short}"
    raise TypeError(
        f"{path}: {value!r} has no importable name; define it at the top of a module (no lambda, no closure)"
    )


def _resolve(reference, packages, path):
    module, _, name = reference.partition(":")
    if module.split(".")[0] not in packages or not name:
        raise ValueError(
            f"{path}: {reference!r} is not from a known package ({', '.join(packages)}); "
            "pass packages=(..., 'yours') to from_json to allow your own"
        )
    found = _lookup(module, name)
    if found is None:
        raise ValueError(f"{path}: nothing named {reference!r} in this version")
    if inspect.ismodule(found) or not callable(found):
        raise ValueError(f"{path}: {reference!r} is neither a class nor a function")
    return found


def _lookup(module, name):
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found
    except (ImportError, AttributeError):
        return None
