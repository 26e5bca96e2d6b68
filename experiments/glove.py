"""GloVe: Global Vectors for Word Representation. Pennington et al. 2014, EMNLP.

    python -m experiments.glove glove train --workdir runs/glove
    python -m experiments.glove glove evaluate --workdir runs/glove --record
    python -m experiments.glove glove predict dog --workdir runs/glove

On the text of experiments/word2vec.py. The paper's smallest text, Wikipedia of 2010 with 1.6 thousand million words, is no
yardstick for these 2.9 million; its numbers are in PAPER (table 2, 100 numbers a word).

Departures from the paper:
- section 4.2: AdaGrad with 0.05 as in the paper, but a step sees 16,384 cells of the matrix, the authors' code one. Their
  sums of squares begin at 1, where the loss of one cell is added; here, where it is the mean of 16,384, at 1 / 16,384^2.
  With 1e-8 and 65,536 cells (43 on their scale) rare words hardly move: MEN is 13 in place of 31.
- a pair counts whole from 10 on (equation 9), as the authors' script for small texts has it; the paper has 100.
- 50 epochs; words seen 5 times; a window of 10 words that stops at the end of a sentence.
"""

import sys

from experiments.word_vectors import (
    corpus_and_words,
    evaluations,
    small_corpus_and_words,
    small_evaluations,
)
from vlm_jax.data.co_occurrences import CoOccurrences
from vlm_jax.language.glove import GloVe
from vlm_jax.main import main
from vlm_jax.tasks.word_vectors import LogCounts
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import AdaGrad

CITATION = "Pennington et al. 2014"
PAPER = {"glove.wikipedia": {"analogies": 60.3}}
CELLS = 16_384  # a step
STEPS = 408  # an epoch of 6.7 million cells


def glove() -> Experiment:
    """The text that Word2Vec has, a window of 10 words."""
    corpus, tokenizer = corpus_and_words()
    data = CoOccurrences(source=corpus, tokenizer=tokenizer, batch_size=CELLS)
    model = GloVe(vocab_size=tokenizer.vocab_size, width=100)
    return _trained(model, data, evaluations(tokenizer), num_steps=50 * STEPS, log_every=STEPS)


def smoke() -> Experiment:
    """Two steps, tiny."""
    corpus, tokenizer = small_corpus_and_words()
    data = CoOccurrences(source=corpus, tokenizer=tokenizer, batch_size=16, window=3)
    model = GloVe(vocab_size=tokenizer.vocab_size, width=6)
    return _trained(model, data, small_evaluations(tokenizer), num_steps=2, log_every=1)


def _trained(
    model: GloVe,
    data: CoOccurrences,
    tests: tuple[Evaluation, ...],
    *,
    num_steps: int,
    log_every: int,
) -> Experiment:
    return Experiment(
        model=model,
        task=LogCounts(largest=10.0),
        train_data=data,
        num_steps=num_steps,
        optimizer=AdaGrad(learning_rate=0.05, initial=data.batch_size**-2),
        evaluations=tests,
        log_every=log_every,
    )


if __name__ == "__main__":
    sys.exit(main(glove, smoke))
