"""What every captioning experiment shares: the task, the search, the evaluations around a model."""

import dataclasses

from experiments.datasets import CaptionData
from vlm_jax.decoding.beam_search import BeamSearch
from vlm_jax.metrics.captioning import CaptionMetrics
from vlm_jax.metrics.scene_facts import SceneFacts
from vlm_jax.models.generator import Generator
from vlm_jax.tasks.captioning import Captioning
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.optimizers import Adam, Cosine
from vlm_jax.types import BOS, PAD, UNK
from vlm_jax.vision.grid_vector import GridVector
from vlm_jax.vision.small_cnn import SmallCnn
from vlm_jax.vision.vit import LearnedGrid

NUM_PAIRS = 30_000  # training captions of Flickr8k


def captioner(
    data: CaptionData,
    model: Generator,
    *,
    beam: int,
    num_steps: int,
    peak: float = 1e-3,
    evaluations: int = 8,
    label_smoothing: float = 0.0,
    length_penalty: float = 0.0,
    ema_decay: float | None = None,
    best: Best | None = None,
) -> Experiment:
    """Adam with a cosine schedule from `peak` and the gradient's norm clipped at 5; validation `evaluations`
    times, of which the checkpoint with the best score is kept: facts right on scenes, else CIDEr, or as `best` says."""
    on_scenes = "test_unseen" in data.pictures
    every = -(-num_steps // evaluations)
    return Experiment(
        model=model,
        task=Captioning(
            tokenizer=data.tokenizer,
            decoding=BeamSearch(
                max_length=data.max_length - 1,
                width=beam,
                min_length=5,
                length_penalty=length_penalty,
                # Photographs: no "a black jacket and a black jacket and a black jacket and ...". A scene may well hold
                # a purple triangle and a purple triangle.
                block_ngram=0 if on_scenes else 3,
                banned=(PAD, BOS, UNK),
            ),
            metrics=(CaptionMetrics(), SceneFacts()) if on_scenes else (CaptionMetrics(),),
            label_smoothing=label_smoothing,
        ),
        train_data=data.train,
        num_steps=num_steps,
        optimizer=Adam(
            learning_rate=Cosine(peak=peak, num_steps=num_steps),
            clip_norm=5.0,
            ema_decay=ema_decay,
        ),
        evaluations=data.evaluations(every=every),
        best=best or Best(metric="validation/facts_right" if on_scenes else "validation/cider"),
        checkpoint_every=every,
    )


def scene_encoder(features: tuple[int, ...] = (32, 64, 128)) -> SmallCnn:
    """A grid of 8x8 places that know where they are, of pictures of 64x64; trained along with the decoder."""
    return SmallCnn(
        features=(*features, features[-1]),
        strides=(2, 2, 2, 1),
        positions=LearnedGrid(grid=(8, 8), num_extra=0, stddev=0.5),
    )


def scene_vector(features: tuple[int, ...] = (32, 64, 128)) -> GridVector:
    """The same grid as one vector of 4x4 places, for decoders that take no more."""
    return GridVector(encoder=scene_encoder(features), side=4)


def smoke(experiment: Experiment) -> Experiment:
    """The experiment with two steps and one short evaluation: a check that everything fits, no result."""
    return dataclasses.replace(
        experiment,
        num_steps=2,
        evaluations=tuple(
            dataclasses.replace(e, every=None, max_batches=1) for e in experiment.evaluations[:1]
        ),
        best=None,
        log_every=1,
        checkpoint_every=2,
    )
