"""Show, Attend and Tell: Neural Image Caption Generation with Visual Attention. Xu et al. 2015, arXiv 1502.03044.

    python -m experiments.show_attend_and_tell soft train --workdir runs/sat
    python -m experiments.show_attend_and_tell soft evaluate --workdir runs/sat --only test --record
    python -m experiments.show_attend_and_tell scenes train --workdir runs/demo

An LSTM looks at the picture's grid before each word: at the expected place (soft, section 4.2) or at one place that
it draws (hard, section 4.1). Gate beta, doubly stochastic regulariser (eq. 14) and deep output (eq. 7) as in the
paper. Its numbers for Flickr8k (table 1) are in PAPER, ours in experiments/results.

Departures from the paper:
- section 5.1: features of MobileNetV2, 7x7 places of 1280 numbers, as log(1 + x), standardised over the training
  pictures and projected to 256; the paper has VGG-19's 14x14x512. In training one of four views of a picture is drawn
  (as it is, mirrored, two random parts), at test the mean of its grid and its mirror image's, turned round, is taken.
- section 3.1.2: an LSTM of 256 units.
- section 4.3: dropout also of words and picture, label smoothing 0.1, a moving average of the parameters; Adam with a
  cosine schedule; the paper has RMSProp for Flickr8k. Batches of captions of like length, as in the paper, in four
  classes of length.
- section 4.1: the baseline of hard attention is the mean over the other rows of the batch, not over past batches.
- section 5.3: beam 5, ranked by log probability over length, and no three words repeated; captions are cut after 22
  words.
"""

import dataclasses
import sys

import flax.linen as nn

from experiments import captioners, datasets
from experiments.captioners import NUM_PAIRS, captioner
from vlm_jax.language.attention_decoder import AttentionDecoder, HardAttention, SoftAttention
from vlm_jax.layers.recurrent import LSTM
from vlm_jax.main import main
from vlm_jax.models.generator import Generator
from vlm_jax.train.experiment import Experiment
from vlm_jax.vision.precomputed import Precomputed

CITATION = "Xu et al. 2015"
PAPER = {
    "soft": {"bleu_1": 67.0, "bleu_2": 44.8, "bleu_3": 29.9, "bleu_4": 19.5, "meteor": 18.93},
    "hard": {"bleu_1": 67.0, "bleu_2": 45.7, "bleu_3": 31.4, "bleu_4": 21.3, "meteor": 20.30},
}
PAPER_COCO = {"soft": {"bleu_4": 24.3, "meteor": 23.90}, "hard": {"bleu_4": 25.0, "meteor": 23.04}}


def soft() -> Experiment:
    """Flickr8k, soft attention, beam 5."""
    data = datasets.flickr8k(batch_size=128, pool=False)
    decoder = AttentionDecoder(
        vocab_size=data.tokenizer.vocab_size,
        width=256,
        embedding_width=256,
        attention_width=128,
        cell=LSTM(),
        attend=SoftAttention(),
        output_activation=nn.tanh,
        doubly_stochastic_weight=1.0,
        embedding_dropout_rate=0.4,
        rnn_dropout_rate=0.4,
        output_dropout_rate=0.4,
    )
    model = Generator(
        decoder=decoder,
        image_encoder=Precomputed(width=256, dropout_rate=0.2),
    )
    return captioner(
        data,
        model,
        beam=5,
        num_steps=10 * NUM_PAIRS // 128,
        peak=3e-3,
        evaluations=5,
        label_smoothing=0.1,
        length_penalty=1.0,
        ema_decay=0.995,
    )


def hard() -> Experiment:
    """Flickr8k, hard attention trained by REINFORCE, beam 5."""
    return _with_hard_attention(soft())


def scenes() -> Experiment:
    """The pictures made here, with a small CNN trained along. What `make demo` runs."""
    data = datasets.scenes(batch_size=64)
    model = _small(data, width=160, features=(24, 48, 96))
    return captioner(data, model, beam=3, num_steps=1200, peak=3e-3, evaluations=1)


def scenes_hard() -> Experiment:
    """The pictures made here, with hard attention."""
    return _with_hard_attention(scenes())


def smoke() -> Experiment:
    """Two steps of hard attention, tiny."""
    data = datasets.scenes(batch_size=4, config="tiny")
    tiny = captioner(data, _small(data, width=8, features=(4, 4, 4)), beam=2, num_steps=2)
    return captioners.smoke(_with_hard_attention(tiny))


def _small(
    data: datasets.CaptionData, *, width: int, features: tuple[int, ...] = (32, 64, 128)
) -> Generator:
    decoder = AttentionDecoder(
        vocab_size=data.tokenizer.vocab_size,
        width=width,
        embedding_width=width // 2,
        attention_width=width // 2,
        output_activation=nn.tanh,
        doubly_stochastic_weight=0.1,
    )
    return Generator(decoder=decoder, image_encoder=captioners.scene_encoder(features))


def _with_hard_attention(experiment: Experiment) -> Experiment:
    decoder = dataclasses.replace(experiment.model.decoder, attend=HardAttention())
    model = dataclasses.replace(experiment.model, decoder=decoder)
    return dataclasses.replace(experiment, model=model)


if __name__ == "__main__":
    sys.exit(main(soft, hard, scenes, scenes_hard, smoke))
