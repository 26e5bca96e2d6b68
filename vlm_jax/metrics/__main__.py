"""python -m vlm_jax.metrics captioning --references refs.json --predictions hyps.json [--meteor]
python -m vlm_jax.metrics translation --references test.de --predictions hyps.de

Captions: both files are JSON objects, image id -> list of captions; a list of predictions holds one.
Translations: both files have a text a line, as a person writes it. Prints one JSON object: the
scores, times 100, and the signature that makes them comparable.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlm_jax.metrics.base import score
from vlm_jax.metrics.captioning import CaptionMetrics
from vlm_jax.metrics.meteor import require_meteor
from vlm_jax.metrics.sacrebleu import SacreBleu


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m vlm_jax.metrics", description=__doc__.partition("\n\n")[2]
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    captioning = kinds.add_parser("captioning", help="BLEU, ROUGE-L, CIDEr, on request METEOR")
    captioning.add_argument("--references", type=Path, required=True, metavar="JSON")
    captioning.add_argument("--predictions", type=Path, required=True, metavar="JSON")
    captioning.add_argument("--meteor", action="store_true", help="needs Java and coco-eval")
    translation = kinds.add_parser("translation", help="BLEU as sacreBLEU computes it")
    translation.add_argument("--references", type=Path, required=True, metavar="TXT")
    translation.add_argument("--predictions", type=Path, required=True, metavar="TXT")
    options = parser.parse_args(arguments)
    try:
        if options.kind == "translation":
            scores = score_lines(options.references, options.predictions)
        else:
            scores = score_files(options.references, options.predictions, meteor=options.meteor)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(scores))
    return 0


def score_files(references_file: Path, predictions_file: Path, *, meteor: bool) -> dict[str, Any]:
    if meteor:
        require_meteor()
    references = read_texts(references_file)
    predictions = read_texts(predictions_file)
    for here, there, file in (
        (references, predictions, predictions_file),
        (predictions, references, references_file),
    ):
        missing = [i for i in here if i not in there]
        if missing:
            raise ValueError(f"{file} lacks {len(missing)} of {len(here)} ids: {_few(missing)}")
    several = [i for i, texts in predictions.items() if len(texts) != 1]
    if several:
        raise ValueError(
            f"{predictions_file}: {len(several)} ids have not exactly one prediction: "
            f"{_few(several)}; expected a list of one caption each"
        )
    bare = [i for i, texts in references.items() if not texts]
    if bare:
        raise ValueError(f"{references_file}: {len(bare)} ids have no reference: {_few(bare)}")

    metric = CaptionMetrics(meteor=meteor)
    numbers = score(metric, {i: texts[0] for i, texts in predictions.items()}, references)
    counts = sorted({len(texts) for texts in references.values()})
    how_many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    size = f"references:{how_many}|images:{len(references)}"
    return {**numbers, "signature": f"{metric.signature()}|{size}"}


def score_lines(references_file: Path, predictions_file: Path) -> dict[str, Any]:
    references, predictions = read_lines(references_file), read_lines(predictions_file)
    if len(references) != len(predictions):
        raise ValueError(
            f"{predictions_file} has {len(predictions)} lines, {references_file} {len(references)}; expected a "
            "translation for each reference, on its line"
        )
    metric = SacreBleu(reference="target")
    gold = {number: [text] for number, text in enumerate(references)}
    numbers = score(metric, dict(enumerate(predictions)), gold)
    return {**numbers, "signature": f"{metric.signature()}|lines:{len(references)}"}


def read_lines(file: Path) -> list[str]:
    """The lines of a text file; empty ones too, but for what follows the last line break."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error}") from None
    lines = lines if lines[-1] else lines[:-1]
    if not lines:
        raise ValueError(f"{file} holds no lines")
    return lines


def read_texts(file: Path) -> dict[str, list[str]]:
    """A JSON object, id -> list of strings, or an error that says which entry is not so."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = [name for name in found if names.count(name) > 1]
            raise ValueError(f"{file}: given more than once: {_few(twice)}; expected each id once")
        return found

    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{file} holds a {type(content).__name__}; expected an object, id -> list of captions"
        )
    if not content:
        raise ValueError(f"{file} holds no captions")
    for name, texts in content.items():
        if not isinstance(texts, list):
            raise ValueError(
                f"{file}, id {name!r}: {json.dumps(texts)[:60]} is not a list; expected a list of "
                "captions, also of one"
            )
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(
                    f"{file}, id {name!r}: {json.dumps(text)[:60]} is not a string; expected a "
                    "list of captions"
                )
    return content


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


if __name__ == "__main__":
    sys.exit(main())
