"""What the translation experiments share: Multi30k as ready pipelines, the task, the evaluations around a model."""

import dataclasses

from vlm_jax.data.buckets import Buckets
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import Rows, Source, Tfds
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.decoding.beam_search import BeamSearch
from vlm_jax.metrics.sacrebleu import SacreBleu
from vlm_jax.models.generator import Generator
from vlm_jax.report.alignment import Alignments
from vlm_jax.tasks.translation import Translation
from vlm_jax.text.tokenizers import BpeTokenizer
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import Optimizer
from vlm_jax.types import BOS, PAD, UNK

SOURCE, TARGET = "en", "de"
FEW = Rows(
    names=(SOURCE, TARGET),
    rows=(
        ("A man is riding a bicycle.", "Ein Mann fährt Fahrrad."),
        ("Two dogs run on the beach.", "Zwei Hunde laufen am Strand."),
        ("A girl in a red dress.", "Ein Mädchen in einem roten Kleid."),
        ("Three boys play football.", "Drei Jungen spielen Fußball."),
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranslationData:
    """Pipelines of one data set, all with the same tokenizer: `text` is read, `target` written."""

    tokenizer: BpeTokenizer
    max_length: int  # of a text, with BOS and EOS
    train: Pipeline
    held_out: dict[str, Pipeline]


def multi30k(*, tokens: int, vocab_size: int = 10_000) -> TranslationData:
    """Multi30k, English to German, raw text with its case; a joint byte-pair encoding; `tokens` a training batch."""
    sources = {split: Tfds("multi30k", split) for split in ("train", "validation", "test")}
    return _data(sources, vocab_size=vocab_size, tokens=tokens, lengths=(14, 18, 23, 32, 64))


def few() -> TranslationData:
    """Four sentences written down here."""
    return _data({"train": FEW, "test": FEW}, vocab_size=320, tokens=96, lengths=(24, 48))


def translator(
    model: Generator,
    data: TranslationData,
    *,
    num_steps: int,
    every: int,
    optimizer: Optimizer,
    length_penalty: float = 1.0,
) -> Experiment:
    """The loss on validation and a checkpoint every so many steps, of which the five newest are kept (for `evaluate
    --step last-5`); BLEU of beam 5 on validation and test at the end, with pictures of the attention."""
    reports = (Alignments(),)
    evaluations = [
        Evaluation(
            name=split, data=pipeline, reports=reports, loss="validation" not in data.held_out
        )
        for split, pipeline in data.held_out.items()
    ]
    if "validation" in data.held_out:
        loss = Evaluation(
            name="validation_loss", data=data.held_out["validation"], every=every, predict=False
        )
        evaluations.insert(0, loss)
    return Experiment(
        model=model,
        task=Translation(
            tokenizer=data.tokenizer,
            decoding=BeamSearch(
                max_length=data.max_length - 1,
                width=5,
                length_penalty=length_penalty,
                banned=(PAD, BOS, UNK),
            ),
            metrics=(SacreBleu(reference=TARGET),),
            label_smoothing=0.1,
        ),
        train_data=data.train,
        num_steps=num_steps,
        optimizer=optimizer,
        evaluations=tuple(evaluations),
        checkpoint_every=every,
        keep_checkpoints=5,
    )


def smoke(experiment: Experiment) -> Experiment:
    """The experiment with two steps: a check that everything fits, no result."""
    return dataclasses.replace(experiment, num_steps=2, log_every=1, checkpoint_every=2)


def _data(
    sources: dict[str, Source], *, vocab_size: int, tokens: int, lengths: tuple[int, ...]
) -> TranslationData:
    tokenizer = BpeTokenizer(corpus=sources["train"], vocab_size=vocab_size, texts=(SOURCE, TARGET))
    max_length = lengths[-1]
    transforms = tuple(
        Tokenize(tokenizer=tokenizer, max_length=max_length, key=key, output=output)
        for key, output in ((SOURCE, "text"), (TARGET, "target"))
    )
    buckets = Buckets(lengths=lengths, measure=transforms, keys=("text", "target"), tokens=tokens)
    return TranslationData(
        tokenizer=tokenizer,
        max_length=max_length,
        train=Pipeline(
            source=sources["train"],
            transforms=transforms,
            batch_size=8,  # rows come in eights
            train=True,
            buckets=buckets,
            num_workers=1,  # the next batch is made while the device works on this one
        ),
        held_out={
            split: Pipeline(source=source, transforms=transforms, batch_size=100, train=False)
            for split, source in sources.items()
            if split != "train"
        },
    )
