"""Show and Tell: A Neural Image Caption Generator. Vinyals et al. 2015, arXiv 1411.4555.

    python -m experiments.show_and_tell train --workdir runs/show_and_tell
    python -m experiments.show_and_tell evaluate --workdir runs/show_and_tell --only test --record

An LSTM of 512 units reads the picture as its first word, then writes the caption (section 3.1, eq. 10-12). The
paper's numbers for COCO and Flickr8k are in PAPER, ours on Flickr8k in experiments/results.

Departures from the paper:
- section 4.3.1: features of MobileNetV2, frozen; the paper fine-tunes GoogLeNet and averages an ensemble.
- section 4.3.1: Adam with a cosine schedule; the paper has SGD with a fixed rate and no momentum.
- section 3.1: the search repeats no three words.
- section 4.3.3: Karpathy's split, in which 6,000 pictures are trained on.
"""

import sys

from experiments import captioners, datasets
from experiments.captioners import NUM_PAIRS, captioner
from vlm_jax.language.recurrent import PreInject, RecurrentDecoder
from vlm_jax.layers.recurrent import LSTM
from vlm_jax.main import main
from vlm_jax.models.generator import Generator
from vlm_jax.train.experiment import Experiment
from vlm_jax.vision.precomputed import Precomputed

CITATION = "Vinyals et al. 2015"
PAPER = {"paper": {"bleu_1": 63.0}}  # Flickr8k, table 2
PAPER_COCO = {"bleu_4": 27.7, "meteor": 23.7, "cider": 85.5}  # table 1, an ensemble


def paper() -> Experiment:
    """Flickr8k, LSTM 512, beam 20."""
    data = datasets.flickr8k(batch_size=128, pool=True)
    model = Generator(
        decoder=_decoder(width=512, vocab_size=data.tokenizer.vocab_size, dropout_rate=0.5),
        image_encoder=Precomputed(),
    )
    return captioner(data, model, beam=20, num_steps=8 * NUM_PAIRS // 128)


def scenes() -> Experiment:
    """The pictures made here, with a small CNN trained along, beam 3."""
    data = datasets.scenes(batch_size=64)
    model = Generator(
        decoder=_decoder(width=256, vocab_size=data.tokenizer.vocab_size),
        image_encoder=captioners.scene_vector(),
    )
    return captioner(data, model, beam=3, num_steps=4000)


def smoke() -> Experiment:
    """Two steps, tiny."""
    data = datasets.scenes(batch_size=4, config="tiny")
    model = Generator(
        decoder=_decoder(width=8, vocab_size=data.tokenizer.vocab_size),
        image_encoder=captioners.scene_vector((4, 4, 4)),
    )
    return captioners.smoke(captioner(data, model, beam=2, num_steps=2))


def _decoder(*, width: int, vocab_size: int, dropout_rate: float = 0.0) -> RecurrentDecoder:
    return RecurrentDecoder(
        vocab_size=vocab_size,
        width=width,
        embedding_width=width,
        cell=LSTM(),
        inject=PreInject(input_dropout_rate=dropout_rate),
        embedding_dropout_rate=dropout_rate,
        rnn_dropout_rate=dropout_rate,
    )


if __name__ == "__main__":
    sys.exit(main(paper, scenes, smoke))
