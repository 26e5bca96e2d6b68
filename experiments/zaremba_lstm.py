"""Recurrent Neural Network Regularization. Zaremba, Sutskever and Vinyals 2014, arXiv 1409.2329.

    python -m experiments.zaremba_lstm small train --workdir runs/zaremba
    python -m experiments.zaremba_lstm small evaluate --workdir runs/zaremba --only test --step latest --record
    python -m experiments.zaremba_lstm small predict "the company said" --workdir runs/zaremba

Two LSTM layers on the Penn Treebank, whose state goes on from batch to batch. The paper's numbers are in PAPER, ours
in experiments/results; medium and large are for an accelerator.

The authors' cost is summed over the steps of a window and divided by the rows; ours is the mean over tokens. Their
rate of 1 and their bound of 5 on the gradient are therefore a rate of `length` and a bound of 5 / `length` here.

What is recorded of small is the end of its 13 epochs, as in the paper. Validation is best after the fifth (118.1), where
test is 114.1.

Departures from the paper:
- section 4.1: biases start at 0 (theirs: drawn like the matrices); the last window of an epoch is shorter, not left out.
- section 4.1, medium and large: the rate falls after every epoch, as there, and dropout also falls on the word vectors.
- the softmax has eight rows for what is never written.
"""

import sys

from experiments import language_models
from experiments.language_models import Corpus, language_model
from vlm_jax.language.recurrent import RecurrentDecoder
from vlm_jax.layers.initialisers import Uniform
from vlm_jax.layers.recurrent import LSTM
from vlm_jax.main import main
from vlm_jax.models.generator import Generator
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import Sgd, StepDecay

CITATION = "Zaremba et al. 2014"
PAPER = {
    "small": {"perplexity": 115.9},  # of the authors' code, without dropout
    "medium": {"perplexity": 82.7},  # table 1
    "large": {"perplexity": 78.4},
}


def small() -> Experiment:
    """2 x 200, no dropout, 13 epochs."""
    return _zaremba(
        language_models.ptb(),
        width=200,
        length=20,
        scale=0.1,
        dropout_rate=0.0,
        clip=5.0,
        epochs=13,
        constant_epochs=4,
        factor=0.5,
    )


def medium() -> Experiment:
    """2 x 650, dropout 0.5, 39 epochs."""
    return _zaremba(
        language_models.ptb(),
        width=650,
        length=35,
        scale=0.05,
        dropout_rate=0.5,
        clip=5.0,
        epochs=39,
        constant_epochs=6,
        factor=1 / 1.2,
    )


def large() -> Experiment:
    """2 x 1500, dropout 0.65, 55 epochs."""
    return _zaremba(
        language_models.ptb(),
        width=1500,
        length=35,
        scale=0.04,
        dropout_rate=0.65,
        clip=10.0,
        epochs=55,
        constant_epochs=14,
        factor=1 / 1.15,
    )


def smoke() -> Experiment:
    """Two steps, tiny."""
    return language_models.smoke(
        _zaremba(
            language_models.tiny(),
            width=8,
            length=5,
            scale=0.1,
            dropout_rate=0.1,
            clip=5.0,
            epochs=2,
            constant_epochs=1,
            factor=0.5,
            batch_size=2,
            tokens=22,
        )
    )


def _zaremba(
    corpus: Corpus,
    *,
    width: int,
    length: int,
    scale: float,
    dropout_rate: float,
    clip: float,
    epochs: int,
    constant_epochs: int,
    factor: float,
    batch_size: int = 20,
    tokens: int = language_models.PTB_TOKENS,
) -> Experiment:
    epoch = language_models.epoch_of(tokens, batch_size, length)
    model = Generator(
        decoder=RecurrentDecoder(
            cell=LSTM(forget_bias=0.0),
            vocab_size=corpus.tokenizer.vocab_size,
            width=width,
            embedding_width=width,
            num_layers=2,
            embedding_dropout_rate=dropout_rate,
            rnn_dropout_rate=dropout_rate,
            carry=True,
            matrix_init=Uniform(scale=scale),
        )
    )
    boundaries = tuple(epoch * number for number in range(constant_epochs, epochs))
    return language_model(
        corpus,
        model,
        optimizer=Sgd(
            learning_rate=StepDecay(start=float(length), factor=factor, boundaries=boundaries),
            clip_norm=clip / length,
        ),
        batch_size=batch_size,
        length=length,
        num_steps=epochs * epoch,
        every=epoch,
    )


if __name__ == "__main__":
    sys.exit(main(small, medium, large, smoke))
