"""What every rectified flow shares: the text encoder, the task, the evaluations around a network."""

import dataclasses

import flax.linen as nn

from experiments.picture_data import PictureData
from vlm_jax.decoding.integrators import Euler, Heun, Integrator
from vlm_jax.decoding.sampling import Sampling
from vlm_jax.language.plan_encoder import PlanEncoder
from vlm_jax.language.transformer import TransformerDecoder, TransformerEncoder
from vlm_jax.metrics.prompt_holds import PlanHolds
from vlm_jax.models.flow import Flow, PlannedFlow
from vlm_jax.tasks.painting import stage_of
from vlm_jax.tasks.rectified_flow import LogitNormal, RectifiedFlow
from vlm_jax.text.scene_plan import ScenePlan
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.optimizers import AdamW, WarmupCosine
from vlm_jax.types import NUM_SPECIAL

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
    ema_decay: float | None = None,
    evaluations: int = 4,
    validation_batches: int | None = 4,
    plan: ScenePlan | None = None,
    planner_layers: int = 4,
) -> Experiment:
    """AdamW with a warm-up and a cosine from `peak` to 0, the gradient's norm clipped at 1, pictures made with a moving
    average of the parameters where there is an `ema_decay`: in a few thousand steps a mean over the last thousand lags behind.
    Painting takes longer than learning: of validation only the first `validation_batches` are painted.

    With a `plan` the network is told what a decoder of `planner_layers` writes of the prompt, at temperature 0.3."""
    every = -(-num_steps // evaluations)
    text_encoder = TransformerEncoder(
        vocab_size=data.tokenizer.vocab_size,
        width=text_width,
        num_layers=text_layers,
        num_heads=4,
        hidden=2 * text_width,
    )
    model = Flow(network=network, text_encoder=text_encoder, image_shape=image_shape)
    planning = {}
    if plan is not None:
        model = _behind_a_plan(model, plan, planner_layers)
        planning = {
            "plan": plan,
            "plan_metrics": (PlanHolds(),),
            "planning": Sampling(
                max_length=plan.length,
                min_length=plan.length,
                top_p=0.95,
                temperature=0.3,
                stages=(stage_of(plan, NUM_SPECIAL),),
            ),
        }
    return Experiment(
        model=model,
        task=RectifiedFlow(
            metrics=data.metrics,
            times=times,
            integrator=integrator,
            guidance=guidance,
            **planning,
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


def _behind_a_plan(flow: Flow, plan: ScenePlan, num_layers: int) -> PlannedFlow:
    """The flow with a decoder as wide as its text encoder, and the network told of objects instead of words."""
    width = flow.text_encoder.width
    return PlannedFlow(
        network=flow.network,
        text_encoder=flow.text_encoder,
        image_shape=flow.image_shape,
        planner=TransformerDecoder(
            vocab_size=plan.vocab_size + NUM_SPECIAL,
            width=width,
            num_layers=num_layers,
            num_heads=flow.text_encoder.num_heads,
            hidden=4 * width,
            max_length=plan.length,
        ),
        plan_encoder=PlanEncoder(
            vocab_size=plan.vocab_size,
            num_parts=plan.num_parts,
            width=width,
            hidden=2 * width,
        ),
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
