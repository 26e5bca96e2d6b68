"""What `predict --prompt` writes: a contact sheet of the pictures that a run makes of a text.

    python -m experiments.flow_scenes predict --prompt "a red circle left of a small blue square" --count 16 --workdir DIR
    python -m experiments.flow_scenes predict --prompt "a red circle" --to "a blue square" --steps 8 --workdir DIR

The second goes from one prompt to the other, each row from the same noise. Scenes are judged: a green frame says that the
whole prompt holds.
"""

import dataclasses
import difflib
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.commands.command import Command, UserError
from vlm_jax.commands.pipelines import predicting
from vlm_jax.commands.workdirs import meant, trained, variables_of

COUNT, ROWS, STEPS = 16, 4, 8  # pictures of a prompt; rows and steps between two
AT_ONCE = 16  # pictures
MAX_PICTURES = 1024
ALONE = {"attention", "classes", "file", "int8", "question"}  # options of other predictions
OURS = {"count", "sheet", "steps", "to"}


def paints(experiment: Any) -> bool:
    """Whether its task derives from tasks.painting.Painting."""
    return hasattr(experiment.task, "with_dropped_prompts")


def paint(command: Command) -> None:
    """Writes a PNG with pictures of the prompt, or between two prompts, and prints where it is."""
    from vlm_jax.report.contact_sheet import write_sheet

    prompt, other = command.options["prompt"], command.options.get("to")
    count = _number(command, "count", COUNT if other is None else ROWS)
    steps = _number(command, "steps", STEPS)
    if command.words:
        raise UserError(
            f"predict --prompt takes no files or texts beside the prompt, given {' '.join(command.words)}; write the "
            'prompt in quotes: --prompt "a red circle"'
        )
    refuse_passed_over(command, ALONE, "is not for --prompt")
    if "steps" in command.options and other is None:
        raise UserError('--steps are those between two prompts: add --to "another prompt"')
    if not paints(meant(command)):
        raise UserError(
            f"--prompt: the model of {command.name} {command.chosen} makes no pictures; it reads them, or texts: leave "
            "--prompt out"
        )
    experiment, workdir = trained(command)
    painter = Painter(experiment, variables_of(workdir, command.options.get("step"))[0])
    path = Path(command.options.get("sheet") or workdir / f"{_file_name(prompt, other)}.png")
    if other is None:
        pictures = np.concatenate([*painter(prompt, count)])[:count]
        right = painter.verdicts(pictures, prompt)
        write_sheet(path, pictures, prompt, right=right)
        found = {"prompt": prompt}
    else:
        columns = [np.concatenate([*made])[:count] for made in painter.between(prompt, other, count, steps)]  # fmt: skip
        pictures = np.stack(columns, axis=1)  # [count steps h w c]
        shares = [f"{share:.0%}" for share in np.linspace(0, 1, steps)] * count
        pictures = pictures.reshape(-1, *pictures.shape[2:])
        write_sheet(path, pictures, f"{prompt}  →  {other}", columns=steps, below=shares)
        found, right = {"prompt": prompt, "to": other}, None
    if right is not None:
        found["holds"] = right
    if "json" in command.options:
        print(json.dumps({**found, "file": str(path)}, ensure_ascii=False))
        return
    if right is not None:
        print(f"the whole prompt holds in {sum(right)} of {len(right)} pictures")
    print(f"wrote {path}")


def refuse_passed_over(command: Command, names: Collection[str], why: str) -> None:
    """What is typed is never passed over."""
    for name in sorted(names & command.options.keys()):
        raise UserError(f"--{name} {why}; leave it out")


def refuse_alone(experiment: Any) -> None:
    """Words that are given to `predict` without saying that they are the prompt."""
    if paints(experiment):
        raise UserError('this model makes pictures: predict --prompt "a red circle" --count 16')


class Painter:
    """Makes pictures of prompts with the variables of a run; the same seed makes the same pictures."""

    def __init__(self, experiment: Any, variables: Any):
        import jax

        self.evaluation = predicting(experiment)
        self.task = self.evaluation.task or experiment.task
        self.variables, self.key = variables, jax.random.key(experiment.seed)
        transforms = self.evaluation.data.transforms
        (self.tokenize,) = (t for t in transforms if getattr(t, "output", None) == "text")
        self._predict = jax.jit(
            lambda variables, batch, key, task: task.predict(
                experiment.model, variables, batch, key
            ),
            static_argnames="task",
        )

    def __call__(self, prompt: str, count: int) -> Iterator[np.ndarray]:
        """uint8 [s h w c], at least `count` together."""
        yield from self._made({"text": self._tokens(prompt, "--prompt")}, count)

    def between(
        self, first: str, second: str, count: int, steps: int
    ) -> Iterator[Iterator[np.ndarray]]:
        """The same of `steps` places between the two prompts, both ends among them, from the same noise each."""
        batch = {
            "text": self._tokens(first, "--prompt"),
            "text_to": self._tokens(second, "--to"),
        }
        for share in np.linspace(0, 1, steps, dtype=np.float32):
            yield self._made({**batch, "share": share[None]}, count)

    def _made(self, batch: dict[str, np.ndarray], count: int) -> Iterator[np.ndarray]:
        import jax

        task = dataclasses.replace(self.task, num_samples=min(count, AT_ONCE), metrics=())
        if "text_to" in batch:  # of the way between two prompts nobody says which is the best
            task = dataclasses.replace(task, candidates=1)
        batch = {**batch, "id": np.zeros(1, np.int32), "valid": np.ones(1, bool)}
        for part in range(-(-count // AT_ONCE)):
            key = jax.random.fold_in(self.key, part)
            made = self._predict(self.variables, batch, key, task)
            yield task.examples(jax.device_get(made), batch)[0]["pictures"]

    def _tokens(self, prompt: str, where: str) -> np.ndarray:
        """Int[1 l]. Raises UserError for a prompt that cannot be read as a whole."""
        check_prompt(self.tokenize, prompt, where)
        return self.tokenize({"id": 0, self.tokenize.key: prompt}, None)["text"][None]

    def verdicts(self, pictures: np.ndarray, prompt: str) -> list[bool] | None:
        """Whether the whole prompt holds of each picture; None where nobody can say."""
        from vlm_jax.metrics.prompt_holds import PromptHolds, verdict_of

        if not any(isinstance(metric, PromptHolds) for metric in self.task.metrics):
            return None
        verdicts = [verdict_of(picture, prompt) for picture in pictures]
        return [each.right for each in verdicts] if verdicts[0].parsed else None


def check_prompt(tokenize: Any, prompt: str, where: str) -> None:
    """Refuses a prompt that is empty, too long, or has words that the model does not know; part of a prompt is another."""
    tokenizer, room = tokenize.tokenizer, tokenize.max_length - 2
    words = tokenizer.words(prompt) if hasattr(tokenizer, "words") else tokenizer.encode(prompt)
    if not words:
        raise UserError(f"{where}: given {prompt!r}, which has no word; {_allowed(tokenizer)}")
    if hasattr(tokenizer, "vocabulary"):
        known = set(tokenizer.vocabulary)
        unknown = []
        for word in dict.fromkeys(word for word in words if word not in known):
            near = difflib.get_close_matches(word, known, n=1)
            unknown.append(f"{word} (nearest: {near[0]})" if near else word)
        if unknown:
            raise UserError(
                f"{where}: not among the words of the training prompts: {', '.join(unknown)}; {_allowed(tokenizer)}"
            )
    if len(words) > room:
        cut = " ".join(map(str, words[room:][:6]))
        raise UserError(
            f"{where}: given {len(words)} words, expected at most {room}; leave out what begins with {cut!r}"
        )


def _allowed(tokenizer: Any) -> str:
    """Which words a prompt may have."""
    if not hasattr(tokenizer, "vocabulary"):
        return "give a text"
    words = sorted(word for word in tokenizer.vocabulary if word[0] != "⟨")
    shown = ", ".join(words[:80])
    return f"a prompt may have the words {shown}" + (" ..." if len(words) > 80 else "")


def _number(command: Command, name: str, default: int) -> int:
    given = command.options.get(name, str(default))
    least = 2 if name == "steps" else 1
    if not (given.isdigit() and least <= int(given) <= MAX_PICTURES):
        raise UserError(
            f"--{name}: given {given}, expected a number from {least} to {MAX_PICTURES}"
        )
    return int(given)


def _file_name(prompt: str, other: str | None) -> str:
    text = prompt if other is None else f"{prompt} to {other}"
    return re.sub(r"\W+", "_", text.lower()).strip("_")[:80] or "pictures"
