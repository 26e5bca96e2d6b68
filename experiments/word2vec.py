"""Distributed Representations of Words and Phrases and their Compositionality. Mikolov et al. 2013, arXiv 1310.4546.

    python -m experiments.word2vec skip_gram train --workdir runs/skip_gram
    python -m experiments.word2vec skip_gram evaluate --workdir runs/skip_gram --record
    python -m experiments.word2vec skip_gram predict dog "queen - woman + man" --workdir runs/skip_gram
    python -m experiments.word_vectors runs/skip_gram vectors.bin

Skip-gram and CBOW (arXiv 1301.3781) with negative sampling and subsampling, on the captions of Flickr8k, the e-mails of
AESLC and the Penn Treebank: 2.9 million words. The paper's text, a thousand million words of news, is not public; its
numbers (table 1, NEG-5, 300 numbers a word) are no yardstick for ours. benchmarks/word_vectors.py has gensim on the same text.

Departures from the paper:
- section 2.2: the 32 negatives of a row of 32 words (cbow: 16 of 16) stand for 5 a pair; see language/word2vec.py.
- the paper's code updates after every word; here 16,384 words make a step, and a vector moves no farther in it than ten
  pairs (cbow: 30) could move it: the hundreds of pairs of a frequent word, all taken at one place, would throw it beyond.
  Without a limit to speak of (cbow: 1,000 pairs) the analogies fall from 5 to 1. The rate falls from 0.05 a pair to zero;
  with 0.025, the code's for skip-gram, MEN was 24 in place of 33 (gensim's, word by word: 24 and 33 too).
- sentences are shuffled each epoch. 100 numbers a word, 5 epochs, words seen 5 times, t = 1e-3: gensim's defaults.
"""

import sys

import flax.linen as nn

from experiments.word_vectors import (
    corpus_and_words,
    evaluations,
    small_corpus_and_words,
    small_evaluations,
)
from vlm_jax.data.word_windows import WordWindows
from vlm_jax.language.word2vec import Cbow, SkipGram
from vlm_jax.main import main
from vlm_jax.tasks.word_vectors import NegativeSampling
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import Linear, RowClippedSgd

CITATION = "Mikolov et al. 2013"
PAPER = {"skip_gram.news": {"analogies": 59.0}}
EPOCHS = 5
STEPS = (
    136  # an epoch of 2.9 million words, those that subsampling keeps, in batches of 512 rows of 32
)


def skip_gram() -> Experiment:
    """Each word scored against the words around it."""
    corpus, tokenizer = corpus_and_words()
    model = SkipGram(vocab_size=tokenizer.vocab_size, width=100)
    data = WordWindows(source=corpus, tokenizer=tokenizer, batch_size=512)
    return _trained(model, data, evaluations(tokenizer), pairs=80_000)


def cbow() -> Experiment:
    """The mean of the words around it scored against each word."""
    corpus, tokenizer = corpus_and_words()
    model = Cbow(vocab_size=tokenizer.vocab_size, width=100)
    data = WordWindows(
        source=corpus, tokenizer=tokenizer, batch_size=1024, centers=16, negatives=16
    )
    return _trained(model, data, evaluations(tokenizer), pairs=16_384, limit=30.0)


def smoke() -> Experiment:
    """Two steps, tiny."""
    corpus, tokenizer = small_corpus_and_words()
    model = SkipGram(vocab_size=tokenizer.vocab_size, width=6)
    data = WordWindows(
        source=corpus, tokenizer=tokenizer, batch_size=4, centers=8, window=2, negatives=4
    )
    return _trained(model, data, small_evaluations(tokenizer), pairs=80, num_steps=2)


def _trained(
    model: nn.Module,
    data: WordWindows,
    tests: tuple[Evaluation, ...],
    *,
    pairs: int,
    limit: float = 10.0,
    num_steps: int = EPOCHS * STEPS,
) -> Experiment:
    """`pairs` are what the loss of a batch is the mean of, so many times is the rate of one. `limit` is how many
    pairs may move a vector in a step."""
    return Experiment(
        model=model,
        task=NegativeSampling(),
        train_data=data,
        num_steps=num_steps,
        optimizer=RowClippedSgd(
            learning_rate=Linear(start=0.05 * pairs, num_steps=num_steps), row_norm=limit / pairs
        ),
        evaluations=tests,
        log_every=min(STEPS, num_steps // 2),
    )


if __name__ == "__main__":
    sys.exit(main(skip_gram, cbow, smoke))
