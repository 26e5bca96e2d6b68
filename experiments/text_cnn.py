"""Convolutional Neural Networks for Sentence Classification. Kim 2014, arXiv 1408.5882.

    python -m experiments.text_cnn rand train --workdir runs/text_cnn.rand.fold0
    python -m experiments.text_cnn rand predict "a fine film" --workdir runs/text_cnn.rand.fold0 --json

The paper's number for MR is the mean of ten folds (table 2); ours is in experiments/results, a file a fold:

    for fold in 0 1 2 3 4 5 6 7 8 9; do
        python -m experiments.text_cnn rand train --fold $fold --workdir runs/text_cnn.rand.fold$fold
        python -m experiments.text_cnn rand evaluate --only test --record --workdir runs/text_cnn.rand.fold$fold
    done

static and non_static begin with vectors from a file, the paper's of Google News (3.6 GB, not run here), as
$VLM_JAX_DATA/word_vectors/GoogleNews-vectors-negative300.bin; static_skip_gram and non_static_skip_gram with the 100 numbers a
word that experiments/word2vec.py learns from 2.9 million words of captions, e-mails and news (Google's: 100 thousand million):

    python -m experiments.word_vectors runs/skip_gram vectors.bin
    python -m experiments.text_cnn static_skip_gram train --workdir runs/text_cnn.static

Departures from the paper:
- section 2: a window is centred on a word; the paper's sentences are padded with four zeros on either side, so that
  it has windows with the first or the last word only.
- section 3.1: Adam with a cosine schedule from 2e-3, 4 epochs in batches of 128; the paper has Adadelta, 25 epochs in
  batches of 50. The same early stopping, on a tenth of the sentences: the next fold, so that 80 % are trained on.
- words seen once in the training sentences are unknown, and so are those of the test sentences; the paper's code has
  a random vector for each. Punctuation is dropped. In batches, sentences of like length.
- bilstm is not in the paper: a bidirectional LSTM in place of the convolutions, mean over time.
"""

import dataclasses
import sys

from vlm_jax.data.buckets import Buckets
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import Rows, Source, Tfds
from vlm_jax.data.text_transforms import CheckLabels, Tokenize
from vlm_jax.language.convolution import ConvolutionEncoder
from vlm_jax.language.recurrent import RecurrentEncoder
from vlm_jax.layers.pooling import max_pool, pool
from vlm_jax.main import main
from vlm_jax.models.classifier import Classifier
from vlm_jax.pretrained.word_vectors import WordVectors
from vlm_jax.tasks.classification import Classification
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.optimizers import Adam, Cosine

CITATION = "Kim 2014"
PAPER = {
    "rand": {"accuracy": 76.1},
    "static": {"accuracy": 81.0},
    "non_static": {"accuracy": 81.5},
}
CLASSES = ("negative", "positive")
VOCAB_SIZE = 10_240
VECTORS = "word_vectors/GoogleNews-vectors-negative300.bin"
OUR_VECTORS = "vectors.bin"
NUM_TRAIN = 8_530  # sentences in eight of the ten folds


def rand(fold: int = 0) -> Experiment:
    """MR, word vectors learned from nothing."""
    return classifier(mr(fold), cnn(VOCAB_SIZE, width=300))


def static(fold: int = 0) -> Experiment:
    """MR, word vectors from a file, as they are."""
    return _unchanged_vectors(non_static(fold))


def non_static(fold: int = 0) -> Experiment:
    """MR, word vectors from a file, trained along."""
    return _from_vectors(rand(fold), VECTORS)


def static_skip_gram(fold: int = 0, vectors: str = OUR_VECTORS) -> Experiment:
    """MR, word vectors of ours, as they are."""
    return _unchanged_vectors(non_static_skip_gram(fold, vectors))


def non_static_skip_gram(fold: int = 0, vectors: str = OUR_VECTORS) -> Experiment:
    """MR, word vectors of ours, trained along."""
    return _from_vectors(classifier(mr(fold), cnn(VOCAB_SIZE, width=100)), vectors)


def bilstm(fold: int = 0) -> Experiment:
    """MR, a bidirectional LSTM of 128 units, word vectors learned from nothing."""
    encoder = RecurrentEncoder(
        vocab_size=VOCAB_SIZE,
        width=128,
        embedding_width=128,
        embedding_dropout_rate=0.4,
    )
    model = Classifier(num_classes=2, text_encoder=encoder, pooling=pool, dropout_rate=0.5)
    return classifier(mr(fold), model)


def smoke() -> Experiment:
    """Two steps, tiny."""
    rows = (("a fine film", 1), ("a dull film", 0), ("fine fun", 1), ("dull and long", 0))
    source = Rows(names=("sentence", "label"), rows=rows)
    sources = dict.fromkeys(("train", "validation", "test"), source)
    experiment = classifier(sources, cnn(16, width=8, filters=4), batch_size=4)
    few = dataclasses.replace(experiment.evaluations[0], every=None)
    return dataclasses.replace(experiment, num_steps=2, log_every=1, evaluations=(few,), best=None)


def _from_vectors(experiment: Experiment, file: str) -> Experiment:
    tokenizer = experiment.train_data.transforms[0].tokenizer
    return dataclasses.replace(experiment, init_params=WordVectors(file=file, tokenizer=tokenizer))


def _unchanged_vectors(experiment: Experiment) -> Experiment:
    optimizer = dataclasses.replace(experiment.optimizer, frozen=(r"embedding/table$",))
    return dataclasses.replace(experiment, optimizer=optimizer)


def mr(fold: int) -> dict[str, Source]:
    """The sources by split; `fold` is the test set."""
    splits = ("train", "validation", "test")
    return {split: Tfds("mr", split, config=f"fold{fold}") for split in splits}


def cnn(vocab_size: int, *, width: int, filters: int = 100) -> Classifier:
    """Windows of 3, 4 and 5 words, the largest value over time, dropout 0.5. The paper draws word vectors from
    (-0.25, 0.25)."""
    encoder = ConvolutionEncoder(
        vocab_size=vocab_size, embedding_width=width, filters=filters, embedding_stddev=0.15
    )
    return Classifier(num_classes=2, text_encoder=encoder, pooling=max_pool, dropout_rate=0.5)


def classifier(
    sources: dict[str, Source], model: Classifier, *, batch_size: int = 128, epochs: int = 4
) -> Experiment:
    """Adam, the weights of a class no longer than 3, validation after each epoch and the best of these kept."""
    tokenizer = WordTokenizer(
        corpus=sources["train"],
        vocab_size=model.text_encoder.vocab_size,
        min_count=2,
        texts="sentence",
    )
    tokenize = Tokenize(tokenizer=tokenizer, max_length=64, key="sentence", output="text")
    labels = CheckLabels(num_classes=len(CLASSES))
    buckets = Buckets(lengths=(16, 24, 32, 64), measure=tokenize, keys=("text",))
    every = NUM_TRAIN // batch_size

    def pipeline(split: str) -> Pipeline:
        train = split == "train"
        return Pipeline(
            source=sources[split],
            transforms=(tokenize, labels),
            batch_size=batch_size,
            train=train,
            buckets=buckets if train else None,
            num_workers=1,
        )

    def evaluation(split: str) -> Evaluation:
        often = every if split == "validation" else None
        return Evaluation(name=split, data=pipeline(split), every=often, perplexity=False)

    return Experiment(
        model=model,
        task=Classification(classes=CLASSES),
        train_data=pipeline("train"),
        num_steps=epochs * every,
        optimizer=Adam(
            learning_rate=Cosine(peak=2e-3, num_steps=epochs * every),
            max_norm=3.0,
            max_norm_of=(r"linear/kernel$",),
        ),
        evaluations=(evaluation("validation"), evaluation("test")),
        best=Best(metric="validation/accuracy"),
        checkpoint_every=10 * every,
        log_every=every // 2,
    )


if __name__ == "__main__":
    sys.exit(main(rand, static, non_static, static_skip_gram, non_static_skip_gram, bilstm, smoke))
