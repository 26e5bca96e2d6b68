"""What a trained two-tower model is asked on the command line: pictures for a text, a class for a picture, CLIPScore.

    python -m experiments.clip search "a dog runs on grass" "a red car" --workdir runs/clip [--only test] [--json]
    python -m experiments.clip predict a.jpg b.jpg --classes "a dog,a cat" --workdir runs/clip
    python -m experiments.show_and_tell evaluate --workdir runs/captions --only test --clip_score runs/clip

These are verbs and options of `vlm_jax.main`, which hands them on.
"""

import dataclasses
import functools
import json
import operator
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax import main as command_line
from vlm_jax.data.source import Rows
from vlm_jax.main import Command, UserError
from vlm_jax.metrics.clip_score import ClipScore
from vlm_jax.report.gallery import pictures_by_id
from vlm_jax.report.search import Hit, write_search
from vlm_jax.train.evaluation import Evaluation, Results, evaluate

NEAREST = 12  # pictures shown of each search


def search(command: Command) -> None:
    """Prints the pictures of a split nearest to each text, and writes them into workdir/search.html."""
    texts = [*command.words, *command_line._lines_of(command.options.get("file"))]
    if not texts or not all(text.strip() for text in texts):
        raise UserError("search needs texts: search 'a dog runs' 'a red car' --workdir DIR")
    experiment, workdir = command_line._trained(command)
    towers = Towers.of(experiment, workdir, command.options.get("step"))
    for text in texts:
        towers.check_words(text)
    evaluation = towers.searched(command.options.get("only"))
    source = innermost(evaluation.data)
    ids, pictures = towers.of_pictures(source)
    scores = towers.of_texts(texts) @ pictures.T  # [queries pictures]
    picture = pictures_by_id(source)
    found = []
    for query, row in zip(texts, scores):
        nearest = np.argsort(-row, kind="stable")[:NEAREST]
        hits = [_hit(source, picture, ids[index], float(row[index])) for index in nearest]
        found.append(hits)
        if "json" in command.options:
            known = [{"id": hit.id, "name": hit.name, "cosine": hit.score} for hit in hits]
            print(json.dumps({"text": query, "pictures": known}, ensure_ascii=False))
        else:
            print(query)
            for hit in hits:
                print(f"  {hit.score:.3f}\t{hit.name}\t{(*hit.references, '')[0]}")
    path = workdir / "search.html"
    title = f"{workdir.name}: search in {evaluation.name}"
    write_search(path, texts, found, title, len(ids))
    print(f"wrote {path}", file=sys.stderr)


def classify(command: Command) -> None:
    """Prints which of the classes each picture shows, with the probability."""
    classes = tuple(name.strip() for name in command.options["classes"].split(","))
    if len(classes) < 2 or not all(classes) or len(set(classes)) < len(classes):
        raise UserError(
            f"--classes: given {command.options['classes']!r}, expected at least two different names, "
            "separated by commas: --classes 'a dog,a cat'"
        )
    pictures = command_line._picture_files(command)
    experiment, workdir = command_line._trained(command)
    towers = Towers.of(experiment, workdir, command.options.get("step"))
    for name in classes:
        towers.check_words(name)
    pipeline, good = command_line._over_pictures(towers.pipeline, pictures)
    task = experiment.task.zero_shot(classes, towers.tokenize)
    for example in towers.examples(pipeline, task):
        name, chosen = good[example["id"]], example["prediction"]
        if "json" in command.options:
            known = {"class": chosen, "probabilities": example["probabilities"]}
            print(json.dumps({"file": name, **known}, ensure_ascii=False))
        else:
            print(f"{name}\t{chosen}\t{example['probabilities'][chosen]:.3f}")


def refuse_alone(command: Command) -> None:
    """A picture file given to `predict` would be read as a text."""
    if hasattr(command.build().task, "zero_shot"):
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
    towers = Towers.of(command_line.experiment_of(folder, "experiments"), folder, None)
    source = innermost(evaluation.data)
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
        return cls(experiment=experiment, variables=command_line._variables(workdir, step)[0])

    @property
    def pipeline(self) -> Any:
        return command_line._predicting(self.experiment).data

    @property
    def tokenize(self) -> Any:
        """The transform that makes tokens of a text."""
        (found,) = (t for t in self.pipeline.transforms if getattr(t, "output", None) == "text")
        return found

    def searched(self, only: str | None) -> Evaluation:
        """The evaluation whose pictures are searched: the one named, or test, or the first."""
        if only is not None:
            (*others, evaluation) = command_line._chosen_evaluations(self.experiment, only)
            if others:
                raise UserError(f"--only: given {only}, expected one name to search in")
            return evaluation
        named = {evaluation.name: evaluation for evaluation in self.experiment.evaluations}
        return named.get("test", next(iter(named.values())))

    def of_pictures(self, source: Any) -> tuple[list[int], np.ndarray]:
        """Ids and vectors [n d] of the pictures of a source, as an evaluation sees them."""
        pipeline = command_line._reading(self.pipeline, source)
        transforms = command_line._for_keys(self.pipeline.transforms, "image", "image_name")
        examples = self.examples(dataclasses.replace(pipeline, transforms=transforms))
        return [example["id"] for example in examples], _stacked(examples, "image")

    def of_texts(self, texts: Sequence[str]) -> np.ndarray:
        """[n d]."""
        source = Rows(names=(self.tokenize.key,), rows=tuple((text,) for text in texts))
        pipeline = dataclasses.replace(self.pipeline, source=source, transforms=(self.tokenize,))
        return _stacked(self.examples(pipeline), "text")

    def examples(self, pipeline: Any, task: Any = None) -> list[dict[str, Any]]:
        task = task or dataclasses.replace(self.experiment.task, metrics=())
        over = Evaluation(name="asked", data=pipeline, loss=False, reports=(command_line._nothing,))
        return evaluate(over, self.experiment.model, task, self.variables).examples

    def check_words(self, text: str) -> None:
        command_line._check_words(self.pipeline, text, where=repr(text), kind="caption")


def innermost(holder: Any) -> Any:
    """The source of a pipeline under all that wraps it."""
    while hasattr(holder, "source"):
        holder = holder.source
    return holder


def _hit(source: Any, picture: Any, id: int, score: float) -> Hit:
    texts = source.references[id]
    return Hit(
        id=id,
        image=picture(id),
        score=score,
        name=(*texts.get("image_name", ()), f"id {id}")[0],
        references=texts.get("captions", ()),
    )


def _stacked(examples: Iterable[dict[str, Any]], name: str) -> np.ndarray:
    return np.stack([example[name] for example in examples])
