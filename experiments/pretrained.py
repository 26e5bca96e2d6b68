"""What published weights say of pictures.

    python -m experiments.pretrained predict --weights DIR photo.jpg pictures/
    python -m experiments.pretrained predict --weights DIR pictures/ --prompt "caption en" --out captions.jsonl
    python -m experiments.pretrained predict --weights owner/name --revision 0123...  photo.jpg --int8

DIR is a folder in Hugging Face's layout: config.json, safetensors, tokenizer.json, preprocessor_config.json. The model is
any family of vlm_jax/pretrained that writes about pictures. `--prompt` is what it is asked, put into the form that the
weights were trained on; those that only caption take none. A line of JSON a picture, {"file", "text", "log_prob"}, to the
terminal or to `--out`, which a second run goes on with where the first one ended. Folders are searched for pictures.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from experiments import published_models
from vlm_jax.commands.command import UserError
from vlm_jax.commands.pipelines import over_pictures, predictions
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.prompted import Prompt
from vlm_jax.data.source import Pictures
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.decoding.beam_search import BeamSearch
from vlm_jax.pretrained import processors, weights
from vlm_jax.pretrained.prompts import check, prompt_of
from vlm_jax.tasks.generation import Generation

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


def use(argv: list[str]) -> int:
    """Runs the command line; returns the exit code, 2 after a line that says what is wrong."""
    given = _parsed(argv)
    try:
        files = list(pictures_in(given.pictures))
        out = Path(given.out) if given.out else None
        written = written_in(out) if out else set()
        left = [name for name in files if name not in written]
        if not left:
            print(f"{out}: all of {len(files)} pictures are there", file=sys.stderr)
            return 0
        writer = Writer(given)
        opened = out.open("a", encoding="utf-8") if out else contextlib.nullcontext(sys.stdout)
        number = 0

        def progress(number: int) -> None:
            print(f"{number + len(files) - len(left)}/{len(files)}", file=sys.stderr)

        with opened as file:
            for number, line in enumerate(writer.lines(left), start=1):
                print(json.dumps(line), file=file, flush=True)
                if out and number % given.batch == 0:
                    progress(number)
        if out and number % given.batch:  # the last pictures, whether or not some could not be read
            progress(number)
    except (UserError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


class Writer:
    """A published model with its pictures' preprocessing, its tokenizer and a search."""

    def __init__(self, given: argparse.Namespace):
        found = weights.load(given.weights, revision=given.revision, dtype=given.dtype)
        published_models.say_ignored(given.weights, found.ignored)
        self.model, self.variables = found.model, found.variables
        check(found.family, f"{given.weights}: {found.folder.config.get('architectures')}")
        if found.folder.preprocessor is None:
            raise UserError(
                f"{given.weights} has no preprocessor_config.json, which says what its pictures go through"
            )
        tokenizer = found.tokenizer if found.tokenizer is not None else found.folder.tokenizer()
        self.batch, self.int8 = given.batch, given.int8
        self.transforms = processors.transforms(
            found.folder.preprocessor, found.folder.config.get("model_type")
        )
        prompt = self._prompt(given, found, tokenizer)
        if prompt is not None:
            self.transforms += (prompt,)
        self.asked = given.prompt
        search = BeamSearch(max_length=given.max_length, width=given.beam)
        self.task = Generation(tokenizer=tokenizer, decoding=search)
        self._predict = jax.jit(
            lambda variables, batch, key: self.task.predict(self.model, variables, batch, key)
        )

    def lines(self, files: list[str]) -> Iterator[dict[str, Any]]:
        """What is written about each picture that can be read; the others are named on stderr."""
        key = jax.random.key(0)
        empty = Pipeline(
            source=Pictures(paths=()),
            transforms=self.transforms,
            batch_size=self.batch,
            train=False,
        )
        for start in range(0, len(files), 4 * self.batch):
            try:
                some = files[start : start + 4 * self.batch]
                pipeline, good = over_pictures(empty, some, self.asked)
            except UserError:
                continue  # none of these can be read
            for _, batch in pipeline.batches():
                batch = {name: x for name, x in batch.items() if name != "image_name"}
                self._quantise(batch)
                for example in self.task.examples(self._predict(self.variables, batch, key), batch):
                    yield {
                        "file": good[example["id"]],
                        "text": example["prediction"],
                        "log_prob": round(example["log_prob"], 4),
                    }

    def _prompt(
        self, given: argparse.Namespace, found: Any, tokenizer: Any
    ) -> Prompt | Tokenize | None:
        template = found.family.template
        reads = getattr(self.model, "text_encoder", None) is not None
        if template is None and not reads:
            if given.prompt is not None:
                raise UserError(f"--prompt: {given.weights} only captions; leave it out")
            return None
        if given.prompt is None:
            raise UserError(
                f'--prompt: {given.weights} wants to be asked something, such as "caption en"'
            )
        if "\n" in given.prompt:
            raise UserError("--prompt: expected one line; a line break ends the prompt")
        words = len(tokenizer.encode(given.prompt))
        return prompt_of(found.family, tokenizer, self.transforms, words=words)

    def _quantise(self, batch: dict[str, Any]) -> None:
        """Once, with the first batch."""
        if self.int8:
            from vlm_jax.train.int8 import in_int8

            use = predictions(self.task, batch)
            self.model, self.variables = in_int8(self.model, self.variables, use)
            self.int8 = False


def pictures_in(names: list[str]) -> Iterator[str]:
    """The files, and of the folders all files below with the ending of a picture."""
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS)
            if not found:
                raise UserError(f"{name}: no picture in this folder ({', '.join(sorted(ENDINGS))})")
            yield from map(str, found)
        elif path.is_file():
            yield name
        else:
            raise UserError(f"{name}: no such picture file or folder")


def written_in(out: Path) -> set[str]:
    """The pictures that have a line in the file; a last line that is not whole is cut off."""
    if not out.exists():
        return set()
    data = out.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        out.write_bytes(whole)
    try:
        return {json.loads(line)["file"] for line in whole.decode("utf-8").split("\n") if line}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"--out: {out} is not a file of these lines: {error}") from None


def _parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.pretrained",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=["predict"])
    parser.add_argument("pictures", nargs="+", metavar="IMAGE", help="picture files, or folders")
    parser.add_argument("--weights", required=True, metavar="DIR", help="a folder, or owner/name")
    parser.add_argument("--revision", help="the 40 digits of a commit, with owner/name")
    parser.add_argument("--prompt", metavar="TEXT")
    parser.add_argument("--out", metavar="FILE", help="JSON lines; goes on where it ended")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--max_length", type=int, default=30, help="tokens of an answer")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="of the weights",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="then in int8, a quarter of float32, once they are loaded",
    )
    given = parser.parse_args(argv)
    for name in ("batch", "beam", "max_length"):
        if getattr(given, name) < 1:
            parser.error(f"--{name}: expected at least 1")
    return given


if __name__ == "__main__":
    sys.exit(use(sys.argv[1:]))
