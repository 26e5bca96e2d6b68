"""What the language models share: the text as one stream, perplexity over each split, samples to read."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import Rows, Source, Tfds
from vlm_jax.data.streams import Streams
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.decoding.sampling import Sampling
from vlm_jax.models.generator import Generator
from vlm_jax.tasks.language_modelling import LanguageModelling
from vlm_jax.text.tokenizers import BpeTokenizer, WordTokenizer
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.optimizers import Optimizer
from vlm_jax.types import BOS, PAD, UNK

PTB_TOKENS = 929_589  # words and ends of lines in the training split
PROMPTS = ("the company said", "the stock market", "in new york", "he did n't")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """A text in splits, and its words."""

    tokenizer: Any
    splits: dict[str, Source]


def ptb() -> Corpus:
    """The Penn Treebank: 10,000 words, the end of a line among them, and eight rows that are never written."""
    splits = {split: Tfds("ptb", split) for split in ("train", "validation", "test")}
    tokenizer = WordTokenizer(
        corpus=splits["train"], vocab_size=10_008, texts="text", spaces=True, lowercase=False
    )
    return Corpus(tokenizer=tokenizer, splits=splits)


def ptb_in_pieces(vocab_size: int) -> Corpus:
    """The same text in pieces of words; 260 rows are its bytes."""
    splits = ptb().splits
    tokenizer = BpeTokenizer(corpus=splits["train"], vocab_size=vocab_size, texts="text")
    return Corpus(tokenizer=tokenizer, splits=splits)


def tiny() -> Corpus:
    """Four lines, written here."""
    lines = ("the cat sat on the mat", "a dog ran", "the dog saw a cat", "it ran and sat")
    source = Rows(names=("text",), rows=tuple((line,) for line in lines))
    tokenizer = WordTokenizer(corpus=source, vocab_size=24, texts="text", spaces=True)
    return Corpus(
        tokenizer=tokenizer, splits={"train": source, "validation": source, "test": source}
    )


def epoch_of(corpus_tokens: int, batch_size: int, length: int) -> int:
    """The steps in which a stream of so many tokens is read once."""
    return math.ceil(math.ceil(corpus_tokens / batch_size) / length)


@dataclasses.dataclass(frozen=True)
class WriteSamples:
    """Writes samples.txt into the workdir: every prompt with what the model wrote after it."""

    prompts: tuple[str, ...]

    def __call__(
        self, workdir: Path, step: int, name: str, examples: list[dict[str, Any]], numbers: Any
    ) -> None:
        lines = [f"{self.prompts[e['id']]} | {e['prediction']}" for e in examples]
        (workdir / "samples.txt").write_text(f"step {step}\n" + "\n".join(lines) + "\n")


def language_model(
    corpus: Corpus,
    model: Generator,
    *,
    optimizer: Optimizer,
    batch_size: int,
    length: int,
    num_steps: int,
    every: int,
    context: int = 0,
    stride: int | None = None,
    rows: int = 1,
    prompts: tuple[str, ...] = PROMPTS,
) -> Experiment:
    """Trains on windows of `length` tokens in `batch_size` rows; every so many steps, and at the end, the perplexity
    of whole splits, read in `rows` rows, `stride` tokens a window (None: `length`), each after at least `context`
    others. The checkpoint with the best perplexity on validation is kept."""

    def stream(split, **options):
        return Streams(source=corpus.splits[split], tokenizer=corpus.tokenizer, **options)

    def measured(split, often):
        data = stream(split, length=stride or length, batch_size=rows, train=False, context=context)
        return Evaluation(name=split, data=data, every=often, predict=False)

    source = Rows(names=("text",), rows=tuple((prompt,) for prompt in prompts))
    tokenize = Tokenize(
        tokenizer=corpus.tokenizer, max_length=32, key="text", output="prompt", keep_end=True
    )
    samples = Pipeline(source=source, transforms=(tokenize,), batch_size=len(prompts), train=False)
    return Experiment(
        model=model,
        task=LanguageModelling(
            tokenizer=corpus.tokenizer,
            decoding=Sampling(max_length=40, top_p=0.9, banned=(PAD, BOS, UNK)),
        ),
        train_data=stream("train", length=length, batch_size=batch_size, train=True),
        num_steps=num_steps,
        optimizer=optimizer,
        evaluations=(
            measured("validation", every),
            measured("test", None),
            Evaluation(
                name="samples",
                data=samples,
                every=every,
                loss=False,
                reports=(WriteSamples(prompts),),
            ),
        ),
        best=Best(metric="validation/perplexity", mode="min"),
        log_every=100,
        checkpoint_every=every,
    )


def smoke(experiment: Experiment) -> Experiment:
    """Two steps, and the perplexity of validation."""
    return dataclasses.replace(
        experiment,
        num_steps=2,
        evaluations=tuple(dataclasses.replace(e, every=None) for e in experiment.evaluations[:1]),
        best=None,
        log_every=1,
        checkpoint_every=2,
    )
