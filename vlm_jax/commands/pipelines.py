"""The pipeline of an evaluation, reading the pictures or texts that are given on the command line instead."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

from vlm_jax.commands.command import UserError
from vlm_jax.commands.saved import STATISTICS


def predicting(experiment: Any) -> Any:
    """The first evaluation that predicts: its preprocessing is that of what is given on the command line."""
    for evaluation in experiment.evaluations:
        if evaluation.predict:
            return evaluation
    raise UserError("this experiment has no evaluation to take its preprocessing from")


def text_key(pipeline: Any) -> str | None:
    """What the text that the model reads is called in an example: the key of the transform that writes `text` (or
    `prompt`, which a decoder goes on from). None for a model that reads pictures, and where the prompt is always the same."""
    for transform in pipeline.transforms:
        if getattr(transform, "output", None) in ("text", "prompt") and transform.key != "id":
            return transform.key
    return None


def over_texts(pipeline: Any, texts: Sequence[str]) -> Any:
    """The pipeline reading these texts instead: its i-th example is the i-th of them."""
    from vlm_jax.data.source import Rows

    key = text_key(pipeline)
    source = Rows(names=(key,), rows=tuple((text,) for text in texts))
    return dataclasses.replace(
        reading(pipeline, source),
        transforms=for_keys(pipeline.transforms, key),
        batch_size=min(pipeline.batch_size, max(8, len(texts))),
    )


def over_pictures(
    pipeline: Any, pictures: Sequence[str], question: str | None = None
) -> tuple[Any, list[str]]:
    """The pipeline reading the pictures instead, each with the question, and those that can be read.

    Its i-th example is the i-th of these. The others are named on stderr.
    """
    from vlm_jax.data.source import Pictures

    _check_statistics(pipeline)
    bad = _unreadable(reading(pipeline, Pictures(paths=tuple(pictures))))
    for index, reason in bad.items():
        print(f"skipped {pictures[index]}: {reason}", file=sys.stderr)
    good = [name for index, name in enumerate(pictures) if index not in bad]
    if not good:
        raise UserError("none of the pictures can be read")
    pipeline = reading(pipeline, Pictures(paths=tuple(good), question=question))
    size = min(pipeline.batch_size, max(8, len(good)))
    transforms = for_keys(pipeline.transforms, "image", "image_name", "question")
    return dataclasses.replace(pipeline, transforms=transforms, batch_size=size), good


def reading(holder: Any, new: Any) -> Any:
    """The pipeline, or a source in it, over all of `new`, each example once. The old source is not opened."""
    from vlm_jax.data.sampling import First

    if not hasattr(holder, "source"):
        return new
    inner = reading(holder.source, new)
    if isinstance(holder, First) or hasattr(holder, "needs_texts"):
        return inner
    return dataclasses.replace(holder, source=inner)


def for_keys(transforms: Sequence[Any], key: str, *others: str) -> tuple[Any, ...]:
    """Without those that read what a picture or a text alone does not have: its caption, its label, its target."""
    known, kept = {"id", key, *others}, []
    for transform in transforms:
        if getattr(transform, "key", key) not in known:
            continue
        if hasattr(transform, "keys"):
            keys = tuple(key for key in transform.keys if key in known)
            transform = dataclasses.replace(transform, keys=keys)
        kept.append(transform)
        known.add(getattr(transform, "output", key))
    return tuple(kept)


def _unreadable(pipeline: Any) -> dict[int, str]:
    """Index -> reason, for the pictures that cannot be decoded: here one bad file must not stop the others."""
    import numpy as np

    from vlm_jax.data.source import BadExample

    holder, transforms = pipeline, ()
    while hasattr(holder, "source"):  # the innermost ones see the pictures
        transforms = getattr(holder, "transforms", transforms)
        holder = holder.source
    bad = {}
    for index in range(len(holder)):
        example = holder[index]
        try:
            for transform in for_keys(transforms, "image", "image_name"):
                example = transform(example, np.random.default_rng(0))
        except BadExample as error:
            bad[index] = error.reason
    return bad


def _check_statistics(pipeline: Any) -> None:
    """Refuses standardised features where neither their mean and deviation nor the training pictures are here."""
    holder = pipeline
    while hasattr(holder, "source"):
        pictures = getattr(holder, "standardise", None)
        if pictures is not None and holder.statistics is None:
            try:
                len(pictures)
            except (OSError, ValueError) as error:
                raise UserError(
                    "predict: the features are standardised with mean and deviation of the training pictures, "
                    f"{pictures}, which are not here, and the workdir has no {STATISTICS}: {error}"
                ) from error
        holder = holder.source


def nothing(*_: Any) -> None:
    """A report: with one, an evaluation keeps its examples."""


def predictions(task: Any, batch: Any) -> Callable[[Any, Any], Any]:
    """A function of model and variables that predicts this batch."""
    import jax

    return lambda model, variables: task.predict(model, variables, batch, jax.random.key(0))
