"""The command line that every experiment file shares.

    python -m experiments.show_attend_and_tell [FUNCTION] train    --workdir runs/sat --model.decoder.width 512
    python -m experiments.show_attend_and_tell [FUNCTION] evaluate --workdir runs/sat [--record]
    python -m experiments.show_attend_and_tell [FUNCTION] predict  IMAGE... --workdir runs/sat
    python -m experiments.text_cnn             [FUNCTION] predict  TEXT...  --workdir runs/text_cnn
    python -m experiments.clip                 [FUNCTION] search   TEXT...  --workdir runs/clip
    python -m experiments.film                 [FUNCTION] predict  IMAGE... --question "is it red" --workdir runs/film
    python -m experiments.flow_scenes          [FUNCTION] predict  --prompt "a red circle" --count 16 --workdir runs/flow
    python -m experiments.show_attend_and_tell [FUNCTION] describe

An experiment file ends with `main(paper, scenes, smoke)`; the first function is the default. What the verbs do is in
`vlm_jax.commands`, a file each.
"""

import collections
import difflib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_jax import config
from vlm_jax.commands.command import OPTIONS, Command, UserError
from vlm_jax.commands.describe import describe
from vlm_jax.commands.evaluate import evaluate
from vlm_jax.commands.predict import predict
from vlm_jax.commands.search import search
from vlm_jax.commands.train import train
from vlm_jax.memory import keep_freed_memory

VERBS = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "search": search,
    "describe": describe,
}


def main(*experiments: Callable[[], Any], argv: Sequence[str] | None = None) -> int:
    """Runs one verb of one experiment; returns the exit code. Errors of the user end with one line and code 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    keep_freed_memory()
    try:
        command = parse(argv, experiments)
        if "help" in command.options:
            print(_help(command))
        else:
            command.refuse_options()
            VERBS[command.verb](command)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if "--traceback" in argv or not _is_message(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        if _is_of_other_shapes(error):
            print("what was changed makes another model than the workdir has", file=sys.stderr)
        return 2


def parse(argv: Sequence[str], experiments: Sequence[Callable[[], Any]]) -> Command:
    """What was typed. Raises UserError, naming what is near, where it is none of what can be."""
    home = inspect.getmodule(experiments[0])
    functions = {function.__name__: function for function in experiments}
    words, options, changes = [], {}, {}
    items = collections.deque(argv)
    while items:
        item = items.popleft()
        if item == "--":
            words += items
            break
        if item == "-h":
            item = "--help"
        if not item.startswith("--"):
            words.append(item)
            continue
        name, equals, value = item[2:].partition("=")
        kind = OPTIONS[name].value if name in OPTIONS else "VALUE"
        if kind is None and equals:
            raise UserError(f"--{name} takes no value, given {value}")
        if not equals and kind is not None:
            follows = bool(items) and not items[0].startswith("--")
            if kind == "[DIR]":
                follows = follows and items[0] not in (*functions, *VERBS)
            elif not follows:
                raise UserError(f"--{name} needs a value: --{name} {kind}")
            value = items.popleft() if follows else ""
        (options if name in OPTIONS else changes)[name] = value
    function = words.pop(0) if words and words[0] in functions else None
    verb = words.pop(0) if words and words[0] in VERBS else None
    if verb is None and "help" not in options:
        raise UserError(_no_verb(words, functions))
    arguments = _arguments(functions[function or next(iter(functions))], changes)
    return Command(
        module=home.__spec__.name if getattr(home, "__spec__", None) else Path(home.__file__).stem,
        doc=inspect.cleandoc(home.__doc__ or ""),
        functions=functions,
        argv=argv,
        verb=verb,
        function=function,
        words=words,
        options=options,
        changes={path: value for path, value in changes.items() if path not in arguments},
        arguments=arguments,
    )


def _arguments(function: Callable[..., Any], changes: Mapping[str, str]) -> dict[str, Any]:
    """What is typed for the function's own arguments, each of the kind of its default."""
    arguments = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in changes:
            kind = type(parameter.default)
            try:
                arguments[name] = kind(changes[name])
            except ValueError:
                raise UserError(
                    f"--{name}: given {changes[name]}, expected {kind.__name__}, as {parameter.default}"
                ) from None
    return arguments


def _no_verb(words: Sequence[str], functions: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(words[0], (*functions, *VERBS), n=1) if words else []
    return (
        f"expected [FUNCTION] and one of {', '.join(VERBS)}; given {words[0] if words else 'nothing'}"
        + (f", nearest: {near[0]}" if near else "")
        + f". Functions of this file: {', '.join(functions)}. Try --help"
    )


def _is_message(error: Exception) -> bool:
    """Whether the error was written for the reader by this package; a traceback says more of any other."""
    import vlm_jax

    if isinstance(error, UserError) or getattr(error, "filename", None) is not None:
        return True
    if _is_of_other_shapes(error):
        return True
    if not isinstance(error, ValueError | OSError | RuntimeError):
        return False
    innermost = error.__traceback__
    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    file = Path(innermost.tb_frame.f_code.co_filename)
    return file.is_relative_to(Path(vlm_jax.__file__).parent)


def _is_of_other_shapes(error: Exception) -> bool:
    """Whether a model was given parameters of other shapes than its own, as Flax says it."""
    return type(error).__name__ in ("ScopeParamShapeError", "ScopeParamNotFoundError")


def _help(command: Command) -> str:
    width = 22
    lines = [
        f"usage: python -m {command.module} [FUNCTION] {'|'.join(VERBS)} [IMAGE or TEXT ...] --workdir DIR "
        "[--path value ...]",
        "",
        command.doc,
        "",
        "options:",
    ]
    for name, (value, meaning, verbs) in OPTIONS.items():
        meaning = f"{', '.join(verbs)}: {meaning}" if verbs else meaning
        lines.append(f"  {f'--{name} {value}' if value else f'--{name}':{width}s} {meaning}")
    lines += ["", "functions of this file (the first is the default):"]
    for name, function in command.functions.items():
        summary = (inspect.getdoc(function) or "").split("\n")[0]
        lines.append(f"  {name:{width}s} {summary}")
        for argument in inspect.signature(function).parameters.values():
            lines.append(f"  {'':{width}s} --{argument.name} {argument.default}")
    lines += ["", f"every path of {command.chosen} with its value; change it with --path value:"]
    try:
        paths = config.describe(command.build()).splitlines()
    except (UserError, ValueError, OSError) as error:  # a folder that the function looks into
        return "\n".join([*lines, f"  (not to be listed here: {error})"])
    return "\n".join([*lines, *(f"  --{line}" for line in paths)])
