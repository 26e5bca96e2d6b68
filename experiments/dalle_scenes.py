"""Text to picture by codes at toy scale, after DALL-E (Ramesh et al. 2021, arXiv 2102.12092), Parti (Yu et al. 2022,
arXiv 2206.10789) and MaskGIT (Chang et al. 2022, arXiv 2202.04200), with the guidance of Ho and Salimans 2022 (2207.12598).

    python -m experiments.image_tokenizer fsq train --workdir runs/image_tokenizer
    python -m experiments.image_tokenizer fsq_perceptual train --workdir runs/sharper --start runs/image_tokenizer
    python -m experiments.dalle_scenes columns train --workdir runs/dalle --tokenizer runs/sharper
    python -m experiments.dalle_scenes columns evaluate --workdir runs/dalle --record
    python -m experiments.dalle_scenes planned train --workdir runs/planned --tokenizer runs/sharper
    python -m experiments.dalle_scenes maskgit train --workdir runs/maskgit --tokenizer runs/sharper
    python -m experiments.dalle_scenes maskgit_planned train --workdir runs/filled --tokenizer runs/sharper

A prompt is read by a Transformer, and a decoder writes the 64 codes of a picture of 64x64, row by row (`transformer`, and
`lstm` for comparison) or column by column (`columns`), by the same steps and samplers as captions; or all at once, the
surest first (`maskgit`). `planned` is `columns` that writes first what stands where: colour, shape, radius, x and y of each
object, which the scenes know, as Make-A-Scene has tokens of a segmentation before those of the picture (Gafni et al. 2022,
arXiv 2203.13131, section 3.1); `maskgit_planned` fills in all codes at once behind the same plan. The image tokenizer is
trained before, by experiments/image_tokenizer.py, and frozen; the half of it that paints stands in the checkpoint. The pictures are the scenes made here, 64,000 to train on, with five captions each.
Of 8,000 the Transformer learns the clouds of the background by heart: its loss on validation is 4.13 nats a code after
1,500 steps and 4.45 after 3,000; with 64,000 it is 3.82 after 1,500, and twice as many prompts hold. Their codes are
computed once and cached.

Of eight pictures of a prompt the default captioner may choose the one that it would most likely describe so, as CogView does
(Ding et al. 2021, arXiv 2105.13290, section 3.2): `--task.candidates 8` in a prediction, `best_of_8_...` in the results.

There is no published number for these pictures. A prompt holds where an exact reader finds in the picture all that it says
(metrics/prompt_holds.py); how often it does so after the image tokenizer's round trip is the most that can be reached.

Departures: DALL-E reads text and codes as one sequence; here, as in Parti, the codes attend to the text. Both have
billions of parameters; here they are four million. The Transformer's attention knows the distance between places
(Raffel et al. 2020, arXiv 1910.10683, section 2.1), of which 8 is a row, and the vector of a code is a sum over its digits.
6,000 steps of 32 pictures take an hour and a half of one core, 50 minutes of two, the image tokenizer before them 25 and 6 minutes
(`fsq_perceptual` begins after `make demo`, whose captioner also chooses the best of eight).

On validation, guidance 3 with top_p 0.95 held 48 % of prompts, 2 56 %, 1.5 50; 2 with top_p 0.9 54, with 1.0 42 (250 prompts
each): what begins a small object is unlikely at any one place, and a small top_p leaves it out. Guidance that may choose only
among what has 95 % of the probability with the prompt is no better: 3 62 %, 2 62, 5 57, where top_p 0.95 of what is guided has
68, and 69 with temperature 0.7 (300 prompts each, of the long run below).

`columns`, seed 0: the whole prompt holds in 49.3 % of test (of prompts with one object 83.5, with four 10.9) and in 40.6 % of
test_unseen; of the best of eight in 72.0 (95.3, 31.7) and 65.2 %. That was with 32 buckets of distances, of which those below 16
are exact; there are 128 now. With these and 8,000 steps of 128 pictures (on a GPU), five times as many, 64.7 and 51.2 %: it
paints an object twice or leaves it out when columns have parts of several. Steps are not what it lacks: on validation it stands
at 3.10 nats a code from the 6,000th on.

On a GPU, 6,000 steps of 32, seed 0, test and test_unseen: `transformer` 41.2 and 32.0 %, `lstm` 36.7 and 29.8. `maskgit` had 7.2 % of
test at the end of its run (no record; 5.4 of validation, and between 3.6 and 5.4 at temperatures 0.6 and 1 of the codes and 2 to 9 of
the choice): colours and numbers are there, shapes are not, whose codes one reading fills in without knowing of each other; its loss, 5.74
nats a masked code, was still falling. That was without the distances between places, which it knows now; not run with them.

`planned`, seed 0, 5,000 steps of 32 (75 minutes on two cores beside other work): test 94.2 %, test_unseen 90.0 %; of the best of
eight 95.8 and 92.4 %; the plan holds in 98.2 and 95.2 %. What it has over `columns` is what it paints by: a first plan with
the pixel of each centre as one number, and all codes alike in the loss, held 62 % of 300 prompts of validation after 3,000 steps
(temperature 0.7), most of its faults being objects that did not stand where they were planned. With the column and the row of
codes as numbers of their own, and codes of cells that no object reaches counting a quarter, it was 78 % after 2,500 of 5,000
steps. At the end, of prompts of validation with noise of their own, temperature 0.7 holds 89 %, 0.5 92, 0.3 96 (guidance 3 at 0.5
90, 1.5 91); as it is evaluated, 0.3 holds 93.0 % there. At 0.3 eight pictures of a prompt still have eight plans, and the place of
an object differs between them by 7.2 pixels, at 0.7 by 7.8 (standard deviation). That run was trained with 0.7 in its configuration,
and evaluated with --task.decoding.temperature 0.3.

`maskgit_planned`, seed 0, 4,000 steps of 32 (58 minutes on two cores beside other work): test 88.1 %, test_unseen 74.8; the plan
holds in 96.6 and 77.4 %: on pairs that are new it is the plan that is wrong, with 1,000 steps less than `planned` has. Of three and
four objects 86.8 and 70.0 % of test hold. Behind a plan the codes hardly depend on each other: of 300 prompts of validation 1, 2, 4,
8, 12 and 24 readings hold 89.0, 88.3, 88.3, 87.0, 87.7 and 87.3 % (a deviation is 1.9), where `maskgit` with twelve had shapes
that are none. Noise of the choice 0 and 4.5 in place of 1, 88.0 and 86.0 (12 readings); temperature 1 of the codes, 85.7. That
run was trained with 12 readings and 4.5 in its configuration, which training does not read.
"""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from experiments import image_tokenizer, picture_data, show_attend_and_tell
from experiments.datasets import encoded_scenes
from vlm_jax.data.codes import CodesToTarget
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.sampling import EachCaption
from vlm_jax.data.text_transforms import Keep, Tokenize
from vlm_jax.decoding.masked import MaskedDecoding
from vlm_jax.decoding.sampling import Sampling
from vlm_jax.language.attention_decoder import AttentionDecoder
from vlm_jax.language.transformer import TransformerDecoder, TransformerEncoder
from vlm_jax.main import main
from vlm_jax.metrics.prefixed import Prefixed
from vlm_jax.metrics.prompt_holds import PlanHolds
from vlm_jax.models.picture_generator import PictureGenerator
from vlm_jax.tasks.ranking import CaptionLikelihood
from vlm_jax.tasks.text_to_image import MaskedTextToImage, TextToImage, stages_of
from vlm_jax.text.scene_plan import ScenePlan
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.from_run import PartFromRun, VariablesFromRun
from vlm_jax.train.optimizers import AdamW, WarmupCosine
from vlm_jax.types import BOS, NUM_SPECIAL, PAD, UNK
from vlm_jax.vision.image_tokenizer import CodesOf

CITATION = "after Ramesh et al. 2021, Chang et al. 2022"
PAPER = {
    "transformer": {},
    "columns": {},
    "planned": {},
    "lstm": {},
    "maskgit": {},
    "maskgit_planned": {},
}
PLACES = 64  # 8x8 codes
TOKENIZER = "runs/image_tokenizer"
STEPS = 6000
PLANNED_STEPS = 5000
MASKED_STEPS = 4000


def transformer(
    tokenizer: str = TOKENIZER,
    levels: str = image_tokenizer.LEVELS,
    train_steps: int = STEPS,
    batch_size: int = 32,
) -> Experiment:
    """Four layers of width 192, code after code. `levels` are those of the image tokenizer, "vectors" of vqvae."""
    return _painter(
        _decoder(levels), tokenizer, levels, num_steps=train_steps, batch_size=batch_size
    )


def columns(
    tokenizer: str = TOKENIZER,
    eyes: str = "runs/demo",
    levels: str = image_tokenizer.LEVELS,
    train_steps: int = STEPS,
    batch_size: int = 32,
) -> Experiment:
    """The Transformer, column after column: from left to right, as a prompt names what is to be painted. At the end also
    the best of eight pictures each, in the eyes of the captioner of the run `eyes`; "" for none."""
    return _by_columns(None, tokenizer, eyes, levels, train_steps, batch_size)


def planned(
    tokenizer: str = TOKENIZER,
    eyes: str = "runs/demo",
    levels: str = image_tokenizer.LEVELS,
    train_steps: int = PLANNED_STEPS,
    batch_size: int = 32,
) -> Experiment:
    """As `columns`, after 28 numbers that say what stands where, written with temperature 0.3; a code of the background
    counts a quarter in the loss; 5,000 steps."""
    return _by_columns(ScenePlan(), tokenizer, eyes, levels, train_steps, batch_size)


def lstm(
    tokenizer: str = TOKENIZER,
    levels: str = image_tokenizer.LEVELS,
    train_steps: int = STEPS,
    batch_size: int = 32,
) -> Experiment:
    """An LSTM of width 512 that attends to the prompt, code after code."""
    decoder = AttentionDecoder(
        vocab_size=image_tokenizer.quantiser_of(levels).num_codes + NUM_SPECIAL,
        width=512,
        embedding_width=192,
        attention_width=192,
    )
    return _painter(decoder, tokenizer, levels, num_steps=train_steps, batch_size=batch_size)


def maskgit(
    tokenizer: str = TOKENIZER,
    levels: str = image_tokenizer.LEVELS,
    train_steps: int = STEPS,
    batch_size: int = 32,
) -> Experiment:
    """The Transformer reading in both directions; twelve readings a picture."""
    decoder = _decoder(levels, causal=False)
    return _painter(
        decoder, tokenizer, levels, masked=True, num_steps=train_steps, batch_size=batch_size
    )


def maskgit_planned(
    tokenizer: str = TOKENIZER,
    levels: str = image_tokenizer.LEVELS,
    train_steps: int = MASKED_STEPS,
    batch_size: int = 32,
) -> Experiment:
    """`maskgit` behind the plan of `planned`, which is written one number after another; four readings, 4,000 steps."""
    plan = ScenePlan()
    return _painter(
        _decoder(levels, plan=plan, causal=False),
        tokenizer,
        levels,
        masked=True,
        plan=plan,
        num_steps=train_steps,
        batch_size=batch_size,
    )


def smoke(tokenizer: str = "", levels: str = image_tokenizer.LEVELS) -> Experiment:
    """Two steps, tiny, with an image tokenizer that knows nothing, or that of image_tokenizer.smoke in the run `tokenizer`."""
    tiny = _painter(
        _decoder(levels, width=8, num_layers=1, num_heads=2),
        tokenizer,
        levels,
        cnn={"features": (8,), "num_blocks": 1},
        config="tiny",
        train_config="tiny",
        width=8,
        num_layers=1,
        batch_size=4,
        num_steps=2,
    )
    evaluation = tiny.evaluations[0]
    prompts = dataclasses.replace(evaluation.data, batch_size=4)
    evaluation = dataclasses.replace(evaluation, data=prompts, every=None, max_batches=1)
    return dataclasses.replace(tiny, evaluations=(evaluation,), log_every=1)


def _by_columns(
    plan: ScenePlan | None,
    tokenizer: str,
    eyes: str,
    levels: str,
    num_steps: int,
    batch_size: int,
) -> Experiment:
    experiment = _painter(
        _decoder(levels, plan=plan),
        tokenizer,
        levels,
        by_columns=True,
        plan=plan,
        num_steps=num_steps,
        batch_size=batch_size,
    )
    return _with_best_of(experiment, 8, eyes) if eyes else experiment


def _with_best_of(experiment: Experiment, candidates: int, eyes: str) -> Experiment:
    """The same with an evaluation of test and of test_unseen more."""
    words = experiment.task.tokenizer
    ranking = CaptionLikelihood(
        captioner=show_attend_and_tell.scenes().model,
        init_params=VariablesFromRun(workdir=eyes, tokenizer=words),
    )
    task = dataclasses.replace(experiment.task, ranking=ranking)
    best = f"best_of_{candidates}"
    prefixed = {
        name: tuple(Prefixed(metric=m, prefix=f"{best}_") for m in getattr(task, name))
        for name in ("metrics", "plan_metrics")
    }
    several = dataclasses.replace(task, candidates=candidates, **prefixed)
    more = tuple(
        dataclasses.replace(each, name=f"{each.name}_{best}", task=several)
        for each in experiment.evaluations
        if each.name in ("test", "test_unseen")
    )
    evaluations = (*experiment.evaluations, *more)
    return dataclasses.replace(experiment, task=task, evaluations=evaluations)


def _decoder(
    levels: str,
    *,
    plan: ScenePlan | None = None,
    causal: bool = True,
    width: int = 192,
    num_layers: int = 4,
    num_heads: int = 4,
) -> TransformerDecoder:
    quantiser = image_tokenizer.quantiser_of(levels)
    planned, length = (0, 0) if plan is None else (plan.vocab_size, plan.length)
    return TransformerDecoder(
        vocab_size=quantiser.num_codes + NUM_SPECIAL + planned,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        hidden=4 * width,
        max_length=length + PLACES + 2,  # with BOS and EOS
        relative=2 * PLACES if causal else 4 * PLACES,  # half of a direction's buckets are exact
        digits=getattr(quantiser, "levels", ()),  # vectors have none
        causal=causal,
        num_causal=0 if causal or plan is None else 1 + length,  # BOS and the plan
    )


def _painter(
    decoder: Any,
    tokenizer: str,
    levels: str,
    *,
    cnn: Mapping[str, Any] = {},
    masked: bool = False,
    by_columns: bool = False,
    plan: ScenePlan | None = None,
    config: str | None = None,
    train_config: str | None = "large",
    width: int = 192,
    num_layers: int = 2,
    batch_size: int = 32,
    num_steps: int = STEPS,
) -> Experiment:
    quantiser = image_tokenizer.quantiser_of(levels)
    codec = image_tokenizer.image_tokenizer(quantiser, **cnn).clone(by_columns=by_columns)
    data = picture_data.scenes(batch_size=batch_size, config=config)

    def pairs(split: str, rows: int, *, train: bool = False) -> Pipeline:
        """Every caption with the codes of its picture, computed once by the run in `tokenizer`."""
        codes = encoded_scenes(
            split,
            train_config if train else config,
            encoder=CodesOf(tokenizer=codec),
            init_params=VariablesFromRun(workdir=tokenizer, part="tokenizer")
            if tokenizer
            else None,
            dtype="int32",
        )
        return Pipeline(
            source=EachCaption(codes),
            transforms=(
                CodesToTarget(num_codes=quantiser.num_codes, plan=plan),
                Tokenize(tokenizer=data.tokenizer, max_length=data.max_length, output="text"),
                Keep(keys=("text", "target")),
            ),
            batch_size=rows,
            train=train,
            num_workers=int(train),  # the next batch is made while the device works on this one
        )

    model = PictureGenerator(
        decoder=decoder,
        text_encoder=TransformerEncoder(
            vocab_size=data.tokenizer.vocab_size,
            width=width,
            num_layers=num_layers,
            num_heads=4,
            hidden=4 * width,
            max_length=data.max_length,
        ),
        image_tokenizer=codec,
    )
    stages = stages_of(plan, PLACES, quantiser.num_codes)
    drawn = {"top_p": 0.95, "temperature": 1.0 if plan is None else 0.3}

    def sampling(length: int, stages: Any) -> Sampling:
        limits = {"max_length": length, "min_length": length}
        return Sampling(**limits, **drawn, stages=stages, banned=(PAD, BOS, UNK))

    planned = 0 if plan is None else plan.length
    if masked:
        kind = MaskedTextToImage
        readings = {"num_steps": 4, "choice_temperature": 1.0} if planned else {"num_steps": 12}
        writing = {"decoding": MaskedDecoding(max_length=PLACES, **readings, **drawn)}
        if planned:
            writing["planning"] = sampling(planned, stages[:1])
    else:
        kind = TextToImage
        writing = {"decoding": sampling(planned + PLACES + 1, stages)}
    every = -(-num_steps // 4)
    return Experiment(
        model=model,
        task=kind(
            tokenizer=data.tokenizer,
            guidance=2.0,
            metrics=data.metrics,
            plan=plan,
            plan_metrics=() if plan is None else (PlanHolds(),),
            background_weight=1.0 if plan is None else 0.25,
            **writing,
        ),
        train_data=pairs("train", batch_size, train=True),
        num_steps=num_steps,
        optimizer=AdamW(
            learning_rate=WarmupCosine(peak=1.5e-3, warmup_steps=200, num_steps=num_steps),
            clip_norm=1.0,
            weight_decay=0.05,
            frozen=(r"^image_tokenizer/",),
        ),
        init_params=PartFromRun(workdir=tokenizer, part="image_tokenizer") if tokenizer else None,
        evaluations=(
            *data.evaluations(every=every, loss=False),
            Evaluation(name="codes", data=pairs("validation", 100), every=every, predict=False),
        ),
        checkpoint_every=every,
    )


if __name__ == "__main__":
    sys.exit(main(transformer, columns, planned, lstm, maskgit, maskgit_planned, smoke))
