"""Learning Transferable Visual Models From Natural Language Supervision (CLIP). Radford et al. 2021, arXiv 2103.00020.

    python -m experiments.clip frozen train --workdir runs/clip
    python -m experiments.clip frozen evaluate --workdir runs/clip --only test --record
    python -m experiments.clip search "a dog runs on grass" "two people on a beach" --workdir runs/clip
    python -m experiments.clip predict dog.jpg --classes "a dog,a person,a car" --workdir runs/clip
    python -m experiments.show_attend_and_tell evaluate --workdir runs/sat --only test --clip_score runs/clip

Two towers, whose vectors of a picture and its text should be nearer than those of the other pairs of the batch:
softmax over them both ways, learned temperature (figure 3). Recall at 1, 5 and 10 over the 1,000 test pictures of
Flickr8k with their 5,000 captions. There is no accepted table for training from nothing on Flickr8k, so there are no
numbers of a paper here; ours are in experiments/results. Batch sizes and the sigmoid loss: contrastive_study.

Departures from the paper:
- section 2.2: 30,000 pairs, not 400 million.
- section 2.4: a GRU of 256 units over words that were seen five times, the largest value over time; the paper has a
  Transformer over byte pairs, the value at the last token. frozen: cached features of MobileNetV2 (ImageNet), one of
  six views of each picture (as it is, mirrored, four parts), at test the mean of the picture and its mirror image.
- section 2.5: batches of 256 captions of like length; Adam without decay, no warmup, a moving average of the
  parameters, dropout; the checkpoint with the best mean recall on validation of five.
- two captions of one picture that meet in a batch are left out of each other's denominators.
- trained: not run; it takes an accelerator. scenes has no paper either; its numbers are in the README.
"""

import sys

from experiments import datasets, retrievers
from experiments.captioners import NUM_PAIRS, scene_vector
from experiments.datasets import CaptionData
from vlm_jax.language.recurrent import RecurrentEncoder
from vlm_jax.layers.pooling import max_pool, pool
from vlm_jax.layers.recurrent import ResetAfterGRU
from vlm_jax.main import main
from vlm_jax.models.two_tower import TwoTower
from vlm_jax.pretrained.mobilenet import MobileNetV2Weights
from vlm_jax.tasks.contrastive import softmax_pairs
from vlm_jax.train.experiment import Experiment
from vlm_jax.vision.mobilenet import mobilenet_v2_folded
from vlm_jax.vision.precomputed import Precomputed

CITATION = "Radford et al. 2021"
PAPER = {}


def frozen(batch_size: int = 256) -> Experiment:
    """Flickr8k, cached features of MobileNetV2."""
    data = datasets.flickr8k(batch_size=batch_size, pool=True)
    return _flickr8k(data, Precomputed(dropout_rate=0.3), epochs=10, peak=1e-3)


def trained(batch_size: int = 256) -> Experiment:
    """Flickr8k, MobileNetV2 trained along from its ImageNet weights."""
    data = datasets.flickr8k_pixels(batch_size=batch_size)
    weights = MobileNetV2Weights(scope="image_encoder")
    return _flickr8k(data, mobilenet_v2_folded(), epochs=10, peak=3e-4, init_params=weights)


def scenes() -> Experiment:
    """The pictures made here, from pixels; also zero-shot classification."""
    data = datasets.scenes(batch_size=128)
    model = _towers(data, scene_vector((24, 48, 96)), width=128)
    return retrievers.retriever(data, model, objective=softmax_pairs, num_steps=1000, peak=2e-3)


def smoke() -> Experiment:
    """Two steps, tiny."""
    data = datasets.scenes(batch_size=4, config="tiny")
    model = _towers(data, scene_vector((4, 4, 4)), width=8)
    tiny = retrievers.retriever(data, model, objective=softmax_pairs, num_steps=2, peak=1e-3)
    return retrievers.smoke(tiny)


def _flickr8k(data: CaptionData, image_encoder, *, epochs: int, **choices) -> Experiment:
    model = _towers(data, image_encoder, width=256, embedding_dropout_rate=0.3, dropout_rate=0.1)
    return retrievers.retriever(
        data,
        model,
        objective=softmax_pairs,
        num_steps=epochs * NUM_PAIRS // data.train.batch_size,
        ema_decay=0.99,
        **choices,
    )


def _towers(
    data: CaptionData,
    image_encoder,
    *,
    width: int,
    embedding_dropout_rate: float = 0.0,
    dropout_rate: float = 0.0,
) -> TwoTower:
    text_encoder = RecurrentEncoder(
        cell=ResetAfterGRU(),
        vocab_size=data.tokenizer.vocab_size,
        width=width,
        embedding_width=width,
        bidirectional=False,
        embedding_dropout_rate=embedding_dropout_rate,
    )
    return TwoTower(
        image_encoder=image_encoder,
        text_encoder=text_encoder,
        width=width,
        image_pooling=pool,
        text_pooling=max_pool,
        dropout_rate=dropout_rate,
    )


if __name__ == "__main__":
    sys.exit(main(frozen, trained, scenes, smoke))
