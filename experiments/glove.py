"""GloVe: Global Vectors for Word Representation. Pennington et al. 2014, EMNLP.

    python -m experiments.glove glove train --workdir runs/glove
    python -m experiments.glove glove evaluate --workdir runs/glove --record
    python -m experiments.glove glove predict dog --workdir runs/glove

On the text of experiments/word2vec.py. The paper's smallest text, Wikipedia of 2010 with 1.6 thousand million words, is no
yardstick for these 2.9 million; its numbers are in PAPER (table 2, 100 numbers a word).

Departures from the paper:
- section 4.2: AdaGrad with 0.05 as in the paper, but a step sees 65,536 cells of the matrix, the authors' code one. Their
  sums of squares begin at 1, where the loss of one cell is added; here, where it is a mean, at 1e-8.
- 25 epochs; words seen 5 times; a window of 10 words that stops at the end of a sentence.
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
STEPS = 1  # an epoch


def glove() -> Experiment:
    """The text that Word2Vec has, a window of 10 words."""
    corpus, tokenizer = corpus_and_words()
    data = CoOccurrences(source=corpus, tokenizer=tokenizer, batch_size=65_536)
    model = GloVe(vocab_size=tokenizer.vocab_size, width=100)
    return _trained(model, data, evaluations(tokenizer), num_steps=25 * STEPS, log_every=STEPS)


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
        task=LogCounts(),
        train_data=data,
        num_steps=num_steps,
        optimizer=AdaGrad(learning_rate=0.05),
        evaluations=tests,
        log_every=log_every,
    )


if __name__ == "__main__":
    sys.exit(main(glove, smoke))
