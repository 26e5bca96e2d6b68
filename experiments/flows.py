"""What every rectified flow shares: the text encoder, the task, the evaluations around a network."""

import dataclasses

import flax.linen as nn

from experiments.picture_data import PictureData
from vlm_jax.decoding.integrators import Euler, Heun, Integrator
from vlm_jax.language.transformer import TransformerEncoder
from vlm_jax.models.flow import Flow
from vlm_jax.tasks.rectified_flow import LogitNormal, RectifiedFlow
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.optimizers import AdamW, WarmupCosine

ABOUT_THE_MIDDLE = LogitNormal()
HEUN = Heun(num_steps=12, shift=2.0)  # 24 evaluations


def painter(
    data: PictureData,
    network: nn.Module,
    *,
    image_shape: tuple[int, int, int],
    num_steps: int,
    peak: float,
    guidance: float,
    times: LogitNormal = ABOUT_THE_MIDDLE,
    integrator: Integrator = HEUN,
    text_width: int = 128,
    text_layers: int = 2,
    best: Best | None = None,
    ema_decay: float = 0.999,
    evaluations: int = 4,
    validation_batches: int | None = 4,
) -> Experiment:
    """AdamW with a warm-up and a cosine from `peak`, the gradient's norm clipped at 1, pictures made with a moving average
    of the parameters. Painting takes longer than learning: of validation only the first `validation_batches` are painted."""
    every = -(-num_steps // evaluations)
    return Experiment(
        model=Flow(
            network=network,
            text_encoder=TransformerEncoder(
                vocab_size=data.tokenizer.vocab_size,
                width=text_width,
                num_layers=text_layers,
                num_heads=4,
                hidden=2 * text_width,
            ),
            image_shape=image_shape,
        ),
        task=RectifiedFlow(
            metrics=data.metrics, times=times, integrator=integrator, guidance=guidance
        ),
        train_data=data.train,
        num_steps=num_steps,
        optimizer=AdamW(
            learning_rate=WarmupCosine(
                peak=peak, warmup_steps=min(200, num_steps // 10), num_steps=num_steps
            ),
            clip_norm=1.0,
            ema_decay=ema_decay,
        ),
        evaluations=tuple(
            dataclasses.replace(e, max_batches=validation_batches if e.every else None)
            for e in data.evaluations(every=every)
        ),
        best=best,
        checkpoint_every=max(every // 4, 1),
    )


def smoke(experiment: Experiment) -> Experiment:
    """The experiment with two steps and one evaluation of one batch: a check that everything fits, no result."""
    return dataclasses.replace(
        experiment,
        task=dataclasses.replace(experiment.task, integrator=Euler(num_steps=1)),
        num_steps=2,
        evaluations=tuple(
            dataclasses.replace(e, every=None, max_batches=1) for e in experiment.evaluations[:1]
        ),
        best=None,
        log_every=1,
        checkpoint_every=2,
    )
