"""The treebank that tagger and parser share: sources, words and letters, labels, as ready pipelines."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from vlm_jax.data.buckets import Buckets
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import Rows, Source, Tfds
from vlm_jax.data.word_transforms import WordHeads, WordLabels, Words
from vlm_jax.language.word_characters import CharacterCnn, WordCharacterEncoder
from vlm_jax.report.confusion import Confusion
from vlm_jax.text.conllu import RELATIONS, UPOS
from vlm_jax.text.lexicon import NUM_LETTERS, Lexicon
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.optimizers import Adam, Linear

# The subtypes that the annotators of English-EWT use.
ENGLISH_RELATIONS = (
    *RELATIONS,
    *("acl:relcl", "advcl:relcl", "aux:pass", "cc:preconj", "compound:prt", "csubj:outer"),
    *("csubj:pass", "det:predet", "nmod:desc", "nmod:poss", "nmod:unmarked", "nsubj:outer"),
    *("nsubj:pass", "obl:agent", "obl:unmarked"),
)
LENGTHS = (8, 16, 24, 32, 48, 80)  # of training sentences; 44 of 12,544 are longer, and cut
EVALUATED_LENGTH = 96  # the longest sentence of validation and test has 81 words
NUM_WORDS = 204_577  # of training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Treebank:
    """Pipelines of one treebank, all with the same lexicon."""

    lexicon: Lexicon
    train: Pipeline
    validation: Pipeline
    test: Pipeline


def english_ewt(*, reads: str, tokens: int) -> Treebank:
    """UD English-EWT; a training batch holds so many words, padding counted. Words seen twice have a vector, in lower
    case. `reads` are the labels: "upos", or "relations" with the heads."""
    train, validation, test = (
        Tfds("ud_english_ewt", split) for split in ("train", "validation", "test")
    )
    lexicon = Lexicon(corpus=train, vocab_size=8896, min_count=2)
    transforms = _transforms(lexicon, reads, LENGTHS[-1])
    buckets = Buckets(
        lengths=LENGTHS,
        measure=transforms,
        keys=("text", "characters", *(t.output for t in transforms[1:])),
        tokens=tokens,
    )
    evaluated = _transforms(lexicon, reads, EVALUATED_LENGTH)
    return Treebank(
        lexicon=lexicon,
        train=Pipeline(
            source=train,
            transforms=transforms,
            batch_size=4,
            train=True,
            buckets=buckets,
            num_workers=1,
        ),
        validation=_held_out(validation, evaluated, 64),
        test=_held_out(test, evaluated, 64),
    )


def three_sentences(*, reads: str) -> Treebank:
    """Three sentences written down here, for a smoke test."""
    source = Rows(
        names=("words", "upos", "xpos", "heads", "relations"),
        rows=(
            (
                ("The", "dog", "runs", "."),
                ("DET", "NOUN", "VERB", "PUNCT"),
                ("DT", "NN", "VBZ", "."),
                (2, 3, 0, 3),
                ("det", "nsubj", "root", "punct"),
            ),
            (("Stop", "!"), ("VERB", "PUNCT"), ("VB", "."), (0, 1), ("root", "punct")),
            (
                ("Dogs", "bark"),
                ("NOUN", "VERB"),
                ("NNS", "VBP"),
                (2, 0),
                ("nsubj", "root"),
            ),
        ),
    )
    lexicon = Lexicon(corpus=source, vocab_size=16)
    transforms = _transforms(lexicon, reads, 6)
    train = Pipeline(source=source, transforms=transforms, batch_size=2, train=True)
    held_out = _held_out(source, transforms, 2)
    return Treebank(lexicon=lexicon, train=train, validation=held_out, test=held_out)


def encoder(
    lexicon: Lexicon,
    *,
    word_width: int,
    letter_width: int,
    filters: int,
    width: int,
    num_layers: int,
    dropout_rate: float,
    word_dropout_rate: float,
) -> WordCharacterEncoder:
    """Words and letters, read in both directions; one rate of dropout for inputs and between layers."""
    return WordCharacterEncoder(
        vocab_size=lexicon.vocab_size,
        word_width=word_width,
        characters=CharacterCnn(num_letters=NUM_LETTERS, width=letter_width, filters=filters),
        width=width,
        num_layers=num_layers,
        word_dropout_rate=word_dropout_rate,
        input_dropout_rate=dropout_rate,
        rnn_dropout_rate=dropout_rate,
    )


def tiny_encoder(lexicon: Lexicon) -> WordCharacterEncoder:
    """For a smoke test."""
    return encoder(
        lexicon,
        word_width=4,
        letter_width=4,
        filters=4,
        width=4,
        num_layers=2,
        dropout_rate=0.1,
        word_dropout_rate=0.1,
    )


def trained(
    data: Treebank,
    model: nn.Module,
    task: Any,
    *,
    best: str,
    report: Callable[[Source], Confusion],
    loss: bool,
    beta2: float,
    num_steps: int,
    evaluations: int,
) -> Experiment:
    """Adam with a rate falling to 0; validation `evaluations` times, of which the checkpoint with the best score is kept."""
    every = -(-num_steps // evaluations)

    def evaluation(name: str, pipeline: Pipeline, every: int | None) -> Evaluation:
        return Evaluation(
            name=name,
            data=pipeline,
            every=every,
            loss=loss,
            perplexity=False,
            reports=(report(pipeline.source),),
        )

    return Experiment(
        model=model,
        task=task,
        train_data=data.train,
        num_steps=num_steps,
        optimizer=Adam(
            learning_rate=Linear(start=3e-3, num_steps=num_steps), beta2=beta2, clip_norm=5.0
        ),
        evaluations=(
            evaluation("validation", data.validation, every),
            evaluation("test", data.test, None),
        ),
        best=Best(metric=f"validation/{best}"),
        checkpoint_every=every,
    )


def _transforms(lexicon: Lexicon, reads: str, max_length: int) -> tuple[Any, ...]:
    words = Words(lexicon=lexicon, max_length=max_length)
    if reads == "upos":
        return words, WordLabels(names=UPOS, max_length=max_length, key="upos")
    relations = WordLabels(
        names=ENGLISH_RELATIONS, max_length=max_length, key="relations", output="relation"
    )
    return words, WordHeads(max_length=max_length), relations


def _held_out(source: Source, transforms: tuple[Any, ...], batch_size: int) -> Pipeline:
    return Pipeline(
        source=source, transforms=transforms, batch_size=batch_size, train=False, num_workers=1
    )
