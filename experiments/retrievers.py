"""What the retrieval experiments share: pairs of captioning data, the task, the evaluations around a two-tower model."""

import dataclasses
import math
from collections.abc import Callable

from experiments.datasets import CaptionData
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.models.two_tower import TwoTower
from vlm_jax.tasks.contrastive import Contrastive
from vlm_jax.tasks.zero_shot import ZeroShot
from vlm_jax.text.scene_language import COLORS, NUMBERS, SHAPES
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.optimizers import Adam, Cosine


def retriever(
    data: CaptionData,
    model: TwoTower,
    *,
    objective: Callable,
    num_steps: int,
    peak: float,
    evaluations: int = 5,
    ema_decay: float | None = None,
    init_params: Callable | None = None,
) -> Experiment:
    """Adam with a cosine schedule from `peak`, the gradient's norm clipped at 5 and the scale kept at most 100;
    validation `evaluations` times, of which the checkpoint with the best mean recall is kept. On scenes also
    zero-shot classification of the test pictures."""
    every = -(-num_steps // evaluations)
    held_out = {split: _reading(pipeline) for split, pipeline in data.pairs.items()}
    measured = tuple(
        Evaluation(
            name=split,
            data=pipeline,
            every=every if split == "validation" else None,
            loss=False,
        )
        for split, pipeline in held_out.items()
    )
    if "test_unseen" in data.pictures:
        measured += _zero_shot(data)
    return Experiment(
        model=model,
        task=Contrastive(objective=objective),
        train_data=_reading(data.train),
        num_steps=num_steps,
        optimizer=Adam(
            learning_rate=Cosine(peak=peak, num_steps=num_steps),
            clip_norm=5.0,
            max_norm=math.log(model.max_scale),
            max_norm_of=(r"log_scale$",),
            ema_decay=ema_decay,
        ),
        evaluations=measured,
        init_params=init_params,
        best=Best(metric="validation/mean_recall"),
        checkpoint_every=every,
    )


def smoke(experiment: Experiment) -> Experiment:
    """The experiment with two steps and one short evaluation: a check that everything fits, no result."""
    first = dataclasses.replace(experiment.evaluations[0], every=None, max_batches=1)
    return dataclasses.replace(
        experiment, num_steps=2, evaluations=(first,), best=None, log_every=1, checkpoint_every=2
    )


def _reading(pipeline: Pipeline) -> Pipeline:
    """The pipeline with its captions as the text that is read."""
    transforms = tuple(
        dataclasses.replace(each, output="text") if isinstance(each, Tokenize) else each
        for each in pipeline.transforms
    )
    buckets = pipeline.buckets
    if buckets is not None:
        (measure,) = (each for each in transforms if isinstance(each, Tokenize))
        buckets = dataclasses.replace(buckets, measure=measure, keys=("text",))
    return dataclasses.replace(pipeline, transforms=transforms, buckets=buckets)


def _zero_shot(data: CaptionData) -> tuple[Evaluation, ...]:
    """How many objects there are, and the colour of the leftmost, without having been trained on either. The prompts
    are worded as the captions are, one for each colour and shape that a class leaves open."""
    pictures = _reading(data.pictures["test"])
    (tokenize,) = (each for each in pictures.transforms if isinstance(each, Tokenize))
    following = zip(COLORS, (*COLORS[1:], COLORS[0]))
    pairs = tuple(f"a {c} {shape} and a {d} {shape}" for c, d in following for shape in SHAPES)
    tasks = (
        ZeroShot(
            classes=("one object", *(f"{number} objects" for number in NUMBERS[2:])),
            templates=tuple(f"{{}}, {pair}" for pair in pairs),
            tokenize=tokenize,
            name="zero_shot_number",
        ),
        ZeroShot(
            classes=COLORS,
            templates=tuple(f"a {{}} {shape}" for shape in SHAPES),
            tokenize=tokenize,
            label="leftmost_color",
            name="zero_shot_color",
        ),
    )
    return tuple(Evaluation(name=task.name, data=pictures, task=task, loss=False) for task in tasks)
