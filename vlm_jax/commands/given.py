"""The pictures and texts that are given on the command line, and which of their words a model knows."""

import difflib
import sys
from pathlib import Path
from typing import Any

from vlm_jax.commands.command import Command, UserError


def picture_files(command: Command) -> list[str]:
    """Those typed, which are all there."""
    pictures = list(command.words)
    if not pictures:
        raise UserError("predict needs picture files: predict a.jpg b.png --workdir DIR")
    missing = [name for name in pictures if not Path(name).is_file()]
    if missing:
        raise UserError(f"no such picture file: {', '.join(missing[:5])}")
    return pictures


def texts_of(command: Command) -> list[str]:
    """Those typed, and the lines of --file."""
    return [*command.words, *_lines_of(command.options.get("file"))]


def _lines_of(file: str | None) -> list[str]:
    if file is None:
        return []
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"--file: {error}") from None
    lines = data.decode("utf-8-sig", "replace").split("\n")
    return [line.rstrip("\r") for line in (lines if lines[-1] else lines[:-1])]


def check_words(
    pipeline: Any, text: str, where: str = "--question", kind: str = "question"
) -> None:
    """Says on stderr which words the model does not know; refuses a text of such words alone."""
    found = [t for t in pipeline.transforms if getattr(t, "output", None) == "text"]
    tokenizer = (
        found[0].tokenizer if found else None
    )  # a prompt is cut nowhere, and refused where too long
    if not hasattr(tokenizer, "words"):
        return
    words, known = tokenizer.words(text), set(tokenizer.vocabulary)
    unknown = [word for word in words if word not in known]
    named = []
    for word in dict.fromkeys(unknown):
        near = difflib.get_close_matches(word, known, n=1)
        named.append(f"{word} (nearest: {near[0]})" if near else word)
    if len(unknown) == len(words):
        given = ", ".join(named) if named else "no word"
        raise UserError(f"{where}: none of its words was in the training {kind}s: {given}")
    if unknown:
        print(f"words that were not in the training {kind}s: {', '.join(named)}", file=sys.stderr)
    room = found[0].max_length - 2  # begin and end
    if len(words) > room:
        print(f"the {kind} is cut after its first {room} words", file=sys.stderr)
