"""What other runs, and the training pictures, say of the pictures that a run makes: more numbers for `evaluate`.

    python -m experiments.flow_fashion_mnist evaluate --workdir runs/flow --only test --judge runs/small_cnn --nearest
    python -m experiments.flow_scenes        evaluate --workdir runs/flow --only test --judge runs/show_attend_and_tell

A judge is the workdir of a classifier, whose classes are the prompts, or of a captioner of scenes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.commands.command import UserError
from vlm_jax.commands.pipelines import for_keys, nothing, predicting, reading
from vlm_jax.commands.workdirs import experiment_of, variables_of
from vlm_jax.data.image_transforms import CentreCrop, Decode, ResizeShorter
from vlm_jax.data.source import InMemory
from vlm_jax.metrics.base import total
from vlm_jax.metrics.facts_kept import FactsKept, is_of_scenes
from vlm_jax.metrics.frechet import FrechetDistance
from vlm_jax.metrics.nearest import copies, nearest
from vlm_jax.report.contact_sheet import in_colour
from vlm_jax.report.gallery import Item, pictures_by_id, write_gallery
from vlm_jax.train.evaluation import Evaluation, Results, evaluate

CUTS = (Decode, ResizeShorter, CentreCrop)  # of a picture, that is the same each time
SHOWN = 48  # pictures on the page of the nearest


def judged(judge: "Judge", evaluation: Evaluation, found: Results) -> Results:
    """The results with what the judge finds: `frechet_distance`, and of a classifier `class_consistency`, of
    a captioner the numbers of FactsKept; each of the latter also of the real pictures (`..._real`), which is what
    the judge itself can do. Of an evaluation without predictions nothing is added."""
    if not evaluation.predict:
        return found
    made, real, prompts, samples = _pictures(evaluation, found)
    judge.check(prompts)
    vectors, real_vectors = judge.vectors(made), judge.vectors(real)
    metric = FrechetDistance()
    first = range(0, len(made), samples)
    stats = [
        metric.stats(each, (real_vectors[index // samples],) if index in first else ())
        for index, each in enumerate(vectors)
    ]
    numbers = metric.result(total(stats))
    each_prompt = [prompt for prompt in prompts for _ in range(samples)]
    numbers |= judge.said(made, each_prompt)
    numbers |= {f"{name}_real": value for name, value in judge.said(real, prompts).items()}
    return _more(evaluation, found, numbers)


def with_nearest(workdir: Path, training: Any, evaluation: Evaluation, found: Results) -> Results:
    """The results with `copies` and the distances to the nearest of the `training` pictures, a pipeline; those nearest of
    all are shown in nearest_<evaluation>.html of the workdir. Of an evaluation without predictions nothing is added."""
    if not evaluation.predict:
        return found
    made, real, prompts, samples = _pictures(evaluation, found)
    source = pictures_by_id(training).source
    decode = _decoding(training)
    pictures = np.stack([decode(source[index]) for index in range(len(source))])
    which, far = nearest(made, pictures)
    numbers = copies(far, nearest(real, pictures)[1])
    items = [
        Item(
            image=in_colour(np.concatenate([made[k], pictures[which[k]]], axis=1)[None])[0],
            caption=prompts[k // samples],
            references=tuple(source.references[_id(source, which[k])].get("captions", ()))[:2],
            scores={"levels apart": float(far[k])},
            name=f"training picture {_id(source, which[k])}",
        )
        for k in np.argsort(far, kind="stable")[:SHOWN]
    ]
    told = (
        f"the {len(items)} of {len(made):,} that come nearest to a training picture: what was made on the left, the "
        f"nearest of {len(pictures):,} training pictures on the right, with its captions"
    )
    path = workdir / f"nearest_{evaluation.name}.html"
    title = f"{workdir.name}: {evaluation.name}, nearest training pictures"
    write_gallery(path, (), title, numbers, sections=[("Nearest of all", told, items)])
    return _more(evaluation, found, numbers)


def _more(evaluation: Evaluation, found: Results, numbers: dict[str, float]) -> Results:
    """The numbers under the prefix that the evaluation's own have (metrics.prefixed): test and test_best_of_8 share a result
    file."""
    prefixes = {getattr(metric, "prefix", "") for metric in getattr(evaluation.task, "metrics", ())}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    more = {f"{prefix}{key}": value for key, value in numbers.items()}
    return Results({**found.numbers, **more}, found.examples)


def _id(source: Any, index: int) -> int:
    return int(source[int(index)]["id"])


def _pictures(
    evaluation: Evaluation, found: Results
) -> tuple[np.ndarray, np.ndarray, list[str], int]:
    """Made uint8 [n*s h w c] and real [n h w c], the prompts, and s, how many were made of each."""
    examples = found.examples
    if not examples or any("pictures" not in each or "picture" not in each for each in examples):
        raise UserError(
            f"{evaluation.name} makes no pictures of prompts beside real ones; leave --judge and --nearest out, or "
            "choose with --only"
        )
    references = evaluation.data.source.references
    made = np.concatenate([each["pictures"] for each in examples])
    real = np.stack([each["picture"] for each in examples])
    prompts = [references[each["id"]]["prompt"][0] for each in examples]
    return made, real, prompts, len(made) // len(real)


def _decoding(pipeline: Any) -> Callable[[dict[str, Any]], np.ndarray]:
    """A stored example's picture as the pipeline decodes it, wherever it stands, and cuts it to its size."""
    transforms: list[Any] = []
    while not transforms and hasattr(pipeline, "source"):
        transforms = [t for t in getattr(pipeline, "transforms", ()) if isinstance(t, CUTS)]
        pipeline = pipeline.source
    if not transforms:
        raise UserError(
            "the training pictures are not decoded by its pipeline: --nearest needs them"
        )

    def decoded(example):
        for transform in transforms:
            example = transform(example, None)
        return example["image"]

    return decoded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """A trained classifier, or captioner, of pictures."""

    folder: Path
    experiment: Any
    variables: Any
    step: int

    @classmethod
    def of(cls, folder: Path) -> "Judge":
        if not (folder / "config.json").is_file():
            raise UserError(
                f"--judge: {folder} has no config.json; give the workdir of a classifier or of a captioner of scenes"
            )
        experiment = experiment_of(folder, "experiments")
        judges = hasattr(experiment.task, "classes") or hasattr(experiment.task, "decoding")
        reads = getattr(experiment.model, "image_encoder", None) is not None
        if not (judges and reads and getattr(experiment.model, "text_encoder", None) is None):
            raise UserError(
                f"--judge: {folder} neither tells the class of a picture nor captions it; give the workdir of "
                "experiments.fashion_mnist small_cnn or of experiments.show_attend_and_tell scenes, say"
            )
        variables, step = variables_of(folder, None)
        return cls(folder=folder, experiment=experiment, variables=variables, step=step)

    @property
    def signature(self) -> str:
        """Which network the numbers are by."""
        return f"judge:{self.folder.name},step:{self.step}"

    def vectors(self, pictures: np.ndarray) -> np.ndarray:
        """[n d], of the image encoder, the mean over its places."""
        import jax

        model = self.experiment.model

        @jax.jit
        def vector(variables, batch):
            features = model.apply(variables, batch, train=False, method="encode")
            kept = features.mask[..., None]
            return (features.values * kept).sum(1) / kept.sum(1)

        found = []
        for _, batch in self._reading(pictures).batches():
            made = np.asarray(vector(self.variables, {"image": batch["image"]}))
            found.append(made[np.asarray(batch["valid"])])
        return np.concatenate(found)

    def check(self, prompts: Sequence[str]) -> None:
        """Refuses prompts that it has no word for, before it looks at any picture."""
        classes = getattr(self.experiment.task, "classes", None)
        if classes is None:
            foreign = next((prompt for prompt in prompts if not is_of_scenes(prompt)), None)
            if foreign is not None:
                raise UserError(
                    f"--judge: {self.folder} captions scenes, and the prompt {foreign!r} is not of their language; give the "
                    "workdir of a classifier whose classes are the prompts, or leave --judge out"
                )
            return
        unknown = sorted(set(prompts) - set(classes))
        if unknown:
            raise UserError(
                f"--judge: {self.folder} tells {', '.join(classes)} apart, of which {unknown[0]!r} is none"
            )

    def said(self, pictures: np.ndarray, prompts: Sequence[str]) -> dict[str, float]:
        """What it makes of the pictures, held against the prompts that they were made of."""
        self.check(prompts)
        task = dataclasses.replace(self.experiment.task, metrics=())
        over = Evaluation(
            name="judged", data=self._reading(pictures), loss=False, reports=(nothing,)
        )
        examples = evaluate(over, self.experiment.model, task, self.variables).examples
        said = [example["prediction"] for example in examples]
        if not hasattr(task, "classes"):
            metric = FactsKept()
            return metric.result(
                total(metric.stats(text, (prompt,)) for text, prompt in zip(said, prompts))
            )
        right = [name == prompt for name, prompt in zip(said, prompts)]
        return {"class_consistency": 100.0 * float(np.mean(right))}

    def _reading(self, pictures: np.ndarray) -> Any:
        """Its own preprocessing, of these pictures."""
        examples = [{"id": index, "image": picture} for index, picture in enumerate(pictures)]
        pipeline = predicting(self.experiment).data
        pipeline = reading(pipeline, InMemory(examples))
        transforms = for_keys(pipeline.transforms, "image", "image_name")
        return dataclasses.replace(pipeline, transforms=transforms)
