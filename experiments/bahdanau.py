"""Neural Machine Translation by Jointly Learning to Align and Translate. Bahdanau, Cho and Bengio 2015, arXiv 1409.0473.

    python -m experiments.bahdanau train --workdir runs/bahdanau
    python -m experiments.bahdanau evaluate --workdir runs/bahdanau --only test --step last-5 --record
    python -m experiments.bahdanau predict "A man is riding a bicycle ." --workdir runs/bahdanau

A GRU reads the English sentence in both directions (section 3.2); another writes the German one, looking at all of the
former's states through additive attention before each word (section 3.1). The paper translates English to French of
WMT'14; the number in PAPER is what such models reach on Multi30k, from memory (33 to 38). A run can be evaluated at any
of its checkpoints, and goes on with a larger `--num_steps`.

Departures from the paper:
- section 4.1: Multi30k, raw text with its case; a joint byte-pair encoding of 4,096 rows in place of 30,000 words each.
- appendix A: states of 256 (1000), word vectors of 256 (620), attention of 128 (1000). The output layer is a tanh where
  the paper has a maxout of 500, and shares its table with the word vectors of both languages. The writer starts from
  a tanh layer of the mean of all states; the paper's from the backward reader's first.
- appendix B: dropout 0.3 of words, states and outputs, label smoothing 0.1; Adam with warmup and the inverse square root
  of the steps in place of Adadelta; batches of 2,048 tokens in place of 80 sentences; the mean of the last five
  checkpoints; beam 5.
"""

import sys

import flax.linen as nn

from experiments import translators
from experiments.translators import TranslationData, translator
from vlm_jax.language.attention_decoder import AttentionDecoder
from vlm_jax.language.recurrent import RecurrentEncoder
from vlm_jax.layers.recurrent import GRU
from vlm_jax.main import main
from vlm_jax.models.generator import Generator
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import Adam, InverseSqrt

CITATION = "Bahdanau et al. 2015"
PAPER = {"paper": {"bleu": 36.0}}


def paper() -> Experiment:
    """Multi30k, English to German: GRUs of 256 units in each direction, beam 5."""
    data = translators.multi30k(tokens=2048, vocab_size=4096)
    return translator(
        _model(data, width=256, dropout_rate=0.3),
        data,
        num_steps=6500,
        every=200,
        optimizer=Adam(
            learning_rate=InverseSqrt(peak=2e-3, warmup_steps=300),
            clip_norm=1.0,
        ),
    )


def smoke() -> Experiment:
    """Two steps on four sentences, tiny."""
    data = translators.few()
    model = _model(data, width=8, dropout_rate=0.0)
    optimizer = Adam(learning_rate=1e-3)
    return translators.smoke(translator(model, data, num_steps=2, every=2, optimizer=optimizer))


def _model(data: TranslationData, *, width: int, dropout_rate: float) -> Generator:
    vocab_size = data.tokenizer.vocab_size
    return Generator(
        text_encoder=RecurrentEncoder(
            cell=GRU(),
            vocab_size=vocab_size,
            width=width,
            embedding_width=width,
            embedding_dropout_rate=dropout_rate,
            rnn_dropout_rate=dropout_rate,
        ),
        decoder=AttentionDecoder(
            cell=GRU(),
            vocab_size=vocab_size,
            width=width,
            embedding_width=width,
            attention_width=width // 2,
            gated=False,
            deep_output=True,
            output_activation=nn.tanh,
            embedding_dropout_rate=dropout_rate,
            rnn_dropout_rate=dropout_rate,
            output_dropout_rate=dropout_rate,
            tied=True,
        ),
        joint_embedding=True,
    )


if __name__ == "__main__":
    sys.exit(main(paper, smoke))
