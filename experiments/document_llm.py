"""The smallest language model, as tutorials draw it: an embedding, three recurrent layers, a linear layer.

    python -m experiments.document_llm train --workdir runs/document_llm
    python -m experiments.document_llm evaluate --workdir runs/document_llm --only test --record
    python -m experiments.document_llm predict "the company said" --workdir runs/document_llm

A vocabulary of 10,000 words, vectors of 256, three layers of 128 units, on the Penn Treebank. There is no published
number; Zaremba et al. 2014 (experiments/zaremba_lstm.py) give 115.9 for two layers of 200 without dropout.

What it takes to work: the state goes on from batch to batch, the gradient is clipped, and dropout.
"""

import dataclasses
import sys

from experiments import language_models
from experiments.language_models import Corpus, language_model
from vlm_jax.language.recurrent import RecurrentDecoder
from vlm_jax.layers.recurrent import GRU, LSTM, RNN, Cell
from vlm_jax.main import main
from vlm_jax.models.generator import Generator
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import Adam, Cosine

CITATION = "no paper"
PAPER = {"paper": {}}


def paper() -> Experiment:
    """The tutorial's model, of LSTMs, over words."""
    return _document_llm(language_models.ptb(), cell=LSTM())


def gru() -> Experiment:
    """The same of GRUs."""
    return _document_llm(language_models.ptb(), cell=GRU())


def rnn() -> Experiment:
    """The same of Elman's units."""
    return _document_llm(language_models.ptb(), cell=RNN())


def tied() -> Experiment:
    """One table for what is read and what is written (Press and Wolf 2017), one dropout mask for all times (Gal and
    Ghahramani 2016)."""
    experiment = paper()
    decoder = dataclasses.replace(experiment.model.decoder, tied=True, same_dropout=True)
    return dataclasses.replace(experiment, model=Generator(decoder=decoder))


def bytewise() -> Experiment:
    """The same over bytes, in windows of 128."""
    return _document_llm(
        language_models.ptb_in_pieces(260), cell=LSTM(), length=128, num_steps=26_000
    )


def smoke() -> Experiment:
    """Two steps, tiny."""
    small = dict(embedding=6, recurrent=4, batch_size=2, length=5, num_steps=2)
    return language_models.smoke(_document_llm(language_models.tiny(), cell=GRU(), **small))


def _document_llm(
    corpus: Corpus,
    *,
    cell: Cell,
    embedding: int = 256,
    recurrent: int = 128,
    batch_size: int = 20,
    length: int = 35,
    num_steps: int = 13 * language_models.epoch_of(language_models.PTB_TOKENS, 20, 35),
) -> Experiment:
    decoder = RecurrentDecoder(
        cell=cell,
        vocab_size=corpus.tokenizer.vocab_size,
        width=recurrent,
        embedding_width=embedding,
        num_layers=3,
        embedding_dropout_rate=0.2,
        rnn_dropout_rate=0.2,
        carry=True,
    )
    return language_model(
        corpus,
        Generator(decoder=decoder),
        optimizer=Adam(learning_rate=Cosine(peak=3e-3, num_steps=num_steps), clip_norm=1.0),
        batch_size=batch_size,
        length=length,
        num_steps=num_steps,
        every=-(-num_steps // 13),
    )


if __name__ == "__main__":
    sys.exit(main(paper, gru, rnn, tied, bytewise, smoke))
