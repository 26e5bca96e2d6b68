"""What a trained two-tower model is asked on the command line: its vectors, a class for a picture, CLIPScore.

    python -m experiments.clip predict a.jpg b.jpg --classes "a dog,a cat" --workdir runs/clip
    python -m experiments.show_and_tell evaluate --workdir runs/captions --only test --clip_score runs/clip

The verbs `predict` and `evaluate` hand these on; `search` is a verb by itself.
"""

import dataclasses
import functools
import json
import operator
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.commands.command import Command, UserError
from vlm_jax.commands.given import check_words, picture_files
from vlm_jax.commands.pipelines import for_keys, nothing, over_pictures, predicting, reading
from vlm_jax.commands.workdirs import chosen_evaluations, experiment_of, trained, variables_of
from vlm_jax.data.source import Rows
from vlm_jax.metrics.clip_score import ClipScore
from vlm_jax.report.gallery import pictures_by_id
from vlm_jax.train.evaluation import Evaluation, Results, evaluate


def classify(command: Command) -> None:
    """Prints which of the classes each picture shows, with the probability."""
    classes = tuple(name.strip() for name in command.options["classes"].split(","))
    if len(classes) < 2 or not all(classes) or len(set(classes)) < len(classes):
        raise UserError(
            f"--classes: given {command.options['classes']!r}, expected at least two different names, "
            "separated by commas: --classes 'a dog,a cat'"
        )
    pictures = picture_files(command)
    experiment, workdir = trained(command)
    towers = Towers.of(experiment, workdir, command.options.get("step"))
    for name in classes:
        towers.check_words(name)
    pipeline, good = over_pictures(towers.pipeline, pictures)
    task = experiment.task.zero_shot(classes, towers.tokenize)
    for example in towers.examples(pipeline, task):
        name, chosen = good[example["id"]], example["prediction"]
        if "json" in command.options:
            known = {"class": chosen, "probabilities": example["probabilities"]}
            print(json.dumps({"file": name, **known}, ensure_ascii=False))
        else:
            print(f"{name}\t{chosen}\t{example['probabilities'][chosen]:.3f}")


def refuse_alone(experiment: Any) -> None:
    """A picture file given to `predict` would be read as a text."""
    if hasattr(experiment.task, "zero_shot"):
        raise UserError(
            "this model compares pictures with texts: predict IMAGE... --classes 'a dog,a cat', or search TEXT..."
        )


def with_clip_scores(folder: Path, evaluation: Evaluation, found: Results) -> Results:
    """The results of an evaluation that writes captions, with `clip_score` and `ref_clip_score` among the numbers, and
    the CLIPScore of each caption in its scores, by the two towers of another workdir."""
    if not (folder / "config.json").is_file():
        raise UserError(
            f"--clip_score: {folder} has no config.json; give the workdir of a two-tower model"
        )
    if not all(isinstance(example["prediction"], str) for example in found.examples):
        raise UserError(
            f"--clip_score: {evaluation.name} does not write captions; choose with --only"
        )
    towers = Towers.of(experiment_of(folder, "experiments"), folder, None)
    source = pictures_by_id(evaluation.data).source
    ids, pictures = towers.of_pictures(source)
    picture_of = dict(zip(ids, pictures))
    captions = towers.of_texts([example["prediction"] for example in found.examples])
    references = [source.references[example["id"]]["captions"] for example in found.examples]
    ends = np.cumsum([len(texts) for texts in references])[:-1]
    written = np.split(towers.of_texts([text for texts in references for text in texts]), ends)
    metric = ClipScore()
    stats = [
        metric.stats(caption @ picture_of[example["id"]], gold @ caption)
        for example, caption, gold in zip(found.examples, captions, written)
    ]
    scores = metric.scores(functools.reduce(operator.add, stats))
    examples = [
        {**example, "scores": {"clip_score": score, **example.get("scores", {})}}
        for example, score in zip(found.examples, scores)
    ]
    return Results({**found.numbers, **metric.result(sum(stats))}, examples)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Towers:
    """A trained two-tower model."""

    experiment: Any
    variables: Any

    @classmethod
    def of(cls, experiment: Any, workdir: Path, step: str | None) -> "Towers":
        if not hasattr(experiment.task, "zero_shot"):
            raise UserError(
                f"{workdir} is no two-tower model; train one: python -m experiments.clip"
            )
        return cls(experiment=experiment, variables=variables_of(workdir, step)[0])

    @property
    def pipeline(self) -> Any:
        return predicting(self.experiment).data

    @property
    def tokenize(self) -> Any:
        """The transform that makes tokens of a text."""
        (found,) = (t for t in self.pipeline.transforms if getattr(t, "output", None) == "text")
        return found

    def searched(self, only: str | None) -> Evaluation:
        """The evaluation whose pictures are searched: the one named, or test, or the first."""
        if only is not None:
            (*others, evaluation) = chosen_evaluations(self.experiment, only)
            if others:
                raise UserError(f"--only: given {only}, expected one name to search in")
            return evaluation
        named = {evaluation.name: evaluation for evaluation in self.experiment.evaluations}
        return named.get("test", next(iter(named.values())))

    def of_pictures(self, source: Any) -> tuple[list[int], np.ndarray]:
        """Ids and vectors [n d] of the pictures of a source, as an evaluation sees them."""
        pipeline = reading(self.pipeline, source)
        transforms = for_keys(self.pipeline.transforms, "image", "image_name")
        examples = self.examples(dataclasses.replace(pipeline, transforms=transforms))
        return [example["id"] for example in examples], _stacked(examples, "image")

    def of_texts(self, texts: Sequence[str]) -> np.ndarray:
        """[n d]."""
        source = Rows(names=(self.tokenize.key,), rows=tuple((text,) for text in texts))
        pipeline = dataclasses.replace(self.pipeline, source=source, transforms=(self.tokenize,))
        return _stacked(self.examples(pipeline), "text")

    def examples(self, pipeline: Any, task: Any = None) -> list[dict[str, Any]]:
        task = task or dataclasses.replace(self.experiment.task, metrics=())
        over = Evaluation(name="asked", data=pipeline, loss=False, reports=(nothing,))
        return evaluate(over, self.experiment.model, task, self.variables).examples

    def check_words(self, text: str) -> None:
        check_words(self.pipeline, text, where=repr(text), kind="caption")


def _stacked(examples: Iterable[dict[str, Any]], name: str) -> np.ndarray:
    return np.stack([example[name] for example in examples])
