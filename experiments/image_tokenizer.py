"""Pictures as codes: VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937) and FSQ (Mentzer et al. 2024, arXiv 2309.15505).

    python -m experiments.image_tokenizer fsq train --workdir runs/image_tokenizer
    python -m experiments.image_tokenizer fsq evaluate --workdir runs/image_tokenizer --record
    python -m experiments.image_tokenizer fsq_perceptual train --workdir runs/sharper --start runs/image_tokenizer
    python -m experiments.image_tokenizer vqvae train --workdir runs/vqvae

Pictures of 64x64 become 8x8 codes, each one of 4,096, and come back: what experiments/dalle_scenes.py writes. The two
differ in nothing but the quantiser: 4,096 vectors that follow what they stand for, or four numbers rounded to eight
levels each. PSNR, SSIM, the share of codes in use and their perplexity are of the scenes made here, for which no paper
has numbers; of how many pictures the caption still holds when they have come back (`prompt_holds`) is as far as a model
that writes such codes can get. round_trips_<split>.html shows pictures beside what came back.

Of 63 objects that the reader took for others in 1,000 pictures that had come back from `fsq`, 43 were small stars, whose points
are a few pixels that a squared error hardly sees. `fsq_perceptual` goes on with what the CNN of the default captioner, which
tells stars from squares, makes of both pictures (Johnson, Alahi and Fei-Fei 2016, arXiv 1603.08155, eq. 2).

Departures from van den Oord et al.:
- section 4.1: an encoder that reads patches of four pixels and halves the grid once (48 and 96 channels, one residual
  block at each), layer norms and SiLU, in place of two strided convolutions and ReLU: 8x8 places where theirs are 32x32
  of 128x128. The last layer of the decoder begins at zero.
- eq. 3: the commitment cost is 0.02 in place of 0.25, of a squared error that is not divided by the variance of the
  pictures (0.08 here): with 0.25, two of 512 codes were in use after 150 steps (of a smaller network).
- appendix A.1: the decay is 0.98 in place of 0.99, and codes used less than 0.03 times a batch (they are 4,096 for
  2,048 vectors: 0.5 is the mean) begin anew at a vector of
  the batch, which the paper does not do.
"""

import dataclasses
import sys

from experiments import show_attend_and_tell
from experiments.datasets import SCALE, held_scenes
from vlm_jax.commands.command import UserError
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.prompts import Prompted
from vlm_jax.data.text_transforms import Keep
from vlm_jax.layers.quantisation import FiniteScalarQuantiser, VectorQuantiser
from vlm_jax.main import main
from vlm_jax.metrics.code_use import CodeUse
from vlm_jax.metrics.picture_quality import Psnr, Ssim
from vlm_jax.metrics.prompt_holds import PromptHolds
from vlm_jax.report.round_trips import RoundTrips
from vlm_jax.tasks.reconstruction import Perceptual, Reconstruction
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.from_run import FromRun, VariablesFromRun
from vlm_jax.train.optimizers import Adam, WarmupCosine
from vlm_jax.vision.image_tokenizer import ImageTokenizer, PictureDecoder, PictureEncoder

CITATION = "after van den Oord et al. 2017, Mentzer et al. 2024"
PAPER = {"fsq": {}, "fsq_perceptual": {}, "vqvae": {}}
NUM_CODES = 4096  # of vqvae
LEVELS = "8,8,8,8"  # of fsq
VECTORS = "vectors"  # in their place, that vqvae learns
GRID = (8, 8)
SPLITS = ("validation", "test", "test_unseen")


def fsq(levels: str = LEVELS) -> Experiment:
    """Four numbers of eight levels, or as many as named, of so many: 4,096 codes."""
    return _tokenizer(image_tokenizer(quantiser_of(levels)))


def fsq_perceptual(
    start: str = "runs/image_tokenizer", eyes: str = "runs/demo", levels: str = LEVELS
) -> Experiment:
    """The run of `fsq` in `start` trained on, what comes back being looked at by the CNN of the captioner in `eyes` too."""
    seen = Perceptual(
        encoder=show_attend_and_tell.scenes().model.image_encoder,
        init_params=VariablesFromRun(workdir=eyes, scope="image_encoder"),
    )
    return _tokenizer(
        image_tokenizer(quantiser_of(levels)),
        num_steps=2000,
        peak=5e-4,
        perceptual=seen,
        start=start,
    )


def vqvae() -> Experiment:
    """4,096 vectors of 16 numbers."""
    return _tokenizer(image_tokenizer(quantiser_of(VECTORS)))


def smoke() -> Experiment:
    """Two steps of a tiny VQ-VAE."""
    model = image_tokenizer(quantiser_of(VECTORS), (8,), num_blocks=1)
    tiny = _tokenizer(model, config="tiny", batch_size=4, num_steps=2)
    evaluation = dataclasses.replace(tiny.evaluations[0], every=None)
    return dataclasses.replace(tiny, evaluations=(evaluation,), best=None, log_every=1)


def quantiser_of(levels: str) -> FiniteScalarQuantiser | VectorQuantiser:
    """Of 8,5,5,5 as it is typed four numbers of so many levels; of "vectors" that of `vqvae`."""
    if levels == VECTORS:
        return VectorQuantiser(num_codes=NUM_CODES, width=16, commitment=0.02, dead_below=0.03)
    try:
        numbers = tuple(map(int, levels.split(",")))
    except ValueError:
        raise UserError(
            f"--levels: given {levels}, expected whole numbers such as {LEVELS}, or {VECTORS} for those of vqvae"
        ) from None
    return FiniteScalarQuantiser(levels=numbers)


def image_tokenizer(
    quantiser: FiniteScalarQuantiser | VectorQuantiser,
    features: tuple[int, ...] = (48, 96),
    *,
    num_blocks: int = 1,
) -> ImageTokenizer:
    """64x64 <-> 8x8 codes; the first width is that of patches of 8 pixels, or 4 where there are two widths."""
    cnn = {
        "features": features,
        "patch": 8 // 2 ** (len(features) - 1),
        "num_blocks": num_blocks,
    }
    return ImageTokenizer(
        encoder=PictureEncoder(**cnn),
        decoder=PictureDecoder(**cnn),
        quantiser=quantiser,
        grid=GRID,
    )


def _tokenizer(
    model: ImageTokenizer,
    *,
    config: str | None = None,
    batch_size: int = 32,
    num_steps: int = 8000,
    peak: float = 2e-3,
    perceptual: Perceptual | None = None,
    start: str | None = None,
) -> Experiment:
    pictures = held_scenes(config)

    def pipeline(split: str, *, train: bool = False) -> Pipeline:
        return Pipeline(
            source=pictures[split] if train else Prompted(pictures[split]),
            transforms=(SCALE, Keep(keys=("image",))),
            batch_size=batch_size if train else 100,
            train=train,
            num_workers=1,
        )

    every = -(-num_steps // 5)
    quality = (Psnr(), Ssim())
    return Experiment(
        model=model,
        task=Reconstruction(
            metrics=(*quality, CodeUse(num_codes=model.quantiser.num_codes), PromptHolds()),
            perceptual=perceptual,
            perceptual_weight=0.5,
        ),
        init_params=None if start is None else FromRun(workdir=start),
        train_data=pipeline("train", train=True),
        num_steps=num_steps,
        optimizer=Adam(
            learning_rate=WarmupCosine(peak=peak, warmup_steps=100, num_steps=num_steps),
            clip_norm=1.0,
        ),
        evaluations=tuple(
            Evaluation(
                name=split,
                data=pipeline(split),
                every=every if split == "validation" else None,
                perplexity=False,
                reports=(RoundTrips(metrics=quality),),
            )
            for split in SPLITS
        ),
        best=Best(metric="validation/prompt_holds"),
        checkpoint_every=every,
    )


if __name__ == "__main__":
    sys.exit(main(fsq, fsq_perceptual, vqvae, smoke))
