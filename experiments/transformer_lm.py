"""A Transformer as a language model on the Penn Treebank, over words, pieces of words, or bytes.

    python -m experiments.transformer_lm words train --workdir runs/transformer_lm
    python -m experiments.transformer_lm words evaluate --workdir runs/transformer_lm --only test --record
    python -m experiments.transformer_lm words predict "the company said" --workdir runs/transformer_lm

Blocks of Vaswani et al. 2017 (arXiv 1706.03762) with the norm first, one table for what is read and written. There is
no state to carry on: perplexity is measured with a sliding window, in which every token is predicted once, after at
least `context` others, or all that the text has before it. Perplexities of words, pieces and bytes do not compare;
their bits per byte do. There is no published number for this model.

For an accelerator: not run. On one CPU core a step of `words` takes seconds.
"""

import sys

from experiments import language_models
from experiments.language_models import Corpus, language_model
from vlm_jax.language.transformer import TransformerDecoder
from vlm_jax.main import main
from vlm_jax.models.generator import Generator
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import AdamW, WarmupCosine

CITATION = "no paper"
PAPER = {"words": {}}


def words() -> Experiment:
    """Four layers of 256, windows of 64 words, 40 epochs."""
    return _transformer_lm(language_models.ptb(), length=64, num_steps=40 * 454)


def pieces() -> Experiment:
    """The same over 4,096 pieces of words, in windows of 96."""
    return _transformer_lm(language_models.ptb_in_pieces(4096), length=96, num_steps=20_000)


def bytewise() -> Experiment:
    """The same over bytes, in windows of 256."""
    return _transformer_lm(language_models.ptb_in_pieces(260), length=256, num_steps=20_000)


def smoke() -> Experiment:
    """Two steps, tiny."""
    small = dict(width=8, num_layers=1, num_heads=2, batch_size=2, length=4, num_steps=2)
    return language_models.smoke(_transformer_lm(language_models.tiny(), **small))


def _transformer_lm(
    corpus: Corpus,
    *,
    length: int,
    num_steps: int,
    width: int = 256,
    num_layers: int = 4,
    num_heads: int = 4,
    batch_size: int = 32,
) -> Experiment:
    decoder = TransformerDecoder(
        vocab_size=corpus.tokenizer.vocab_size,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        hidden=4 * width,
        dropout_rate=0.3,
        attention_dropout_rate=0.1,
    )
    rate = WarmupCosine(peak=1e-3, warmup_steps=num_steps // 20, num_steps=num_steps)
    return language_model(
        corpus,
        Generator(decoder=decoder),
        optimizer=AdamW(learning_rate=rate, weight_decay=0.1, clip_norm=1.0),
        batch_size=batch_size,
        length=length,
        num_steps=num_steps,
        every=-(-num_steps // 10),
        context=length - length // 4,
        stride=length // 4,
        rows=batch_size,
    )


if __name__ == "__main__":
    sys.exit(main(words, pieces, bytewise, smoke))
