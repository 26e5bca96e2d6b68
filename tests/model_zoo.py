"""A tiny captioner of every kind, for tests that must hold of all of them, and models that read a text.

The captioners read image features `batch["image"]` [b NUM_PLACES FEATURES] and write over VOCAB_SIZE tokens.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.fusion.concat import Concat
from vlm_jax.fusion.elementwise import Product, Sum
from vlm_jax.fusion.gated import Gated
from vlm_jax.language.attention_decoder import AttentionDecoder, HardAttention, SoftAttention
from vlm_jax.language.copying import CopyableText, CopyingTransformer, PointerGenerator
from vlm_jax.language.recurrent import (
    InitInject,
    Merge,
    ParInject,
    PreInject,
    RecurrentDecoder,
    RecurrentEncoder,
)
from vlm_jax.language.transformer import Form, Layer, TransformerDecoder, TransformerEncoder
from vlm_jax.layers.norm import RMSNorm
from vlm_jax.layers.positions import Rotary
from vlm_jax.layers.recurrent import GRU, LSTM, RNN, ResetAfterGRU
from vlm_jax.models.generator import Generator
from vlm_jax.types import UNK
from vlm_jax.vision.precomputed import Precomputed

VOCAB_SIZE = 23
NUM_PLACES = 4
FEATURES = 6
NUM_SLOTS = 3
# Every row has the words beyond the vocabulary, some of it and, at its end or within, padding.
TEXT = np.array(
    [[23, 24, 25, 7, 23], [24, 9, 23, 25, 0], [25, 0, 24, 23, 11], [23, 5, 25, 24, 5]], np.int32
)


def generators() -> dict[str, Generator]:
    """Name -> captioner; together they have every decoder, cell, way in, fusion and kind of attention."""
    decoders = {
        "init_inject": _recurrent(inject=InitInject(), cell=LSTM(), num_layers=2),
        "pre_inject": _recurrent(inject=PreInject(), cell=GRU()),
        "par_inject": _recurrent(inject=ParInject(fusion=Concat()), cell=RNN()),
        "merge_concat": _recurrent(inject=Merge(fusion=Concat()), cell=ResetAfterGRU(), tied=True),
        "merge_sum": _recurrent(inject=Merge(fusion=Sum()), cell=RNN()),
        "merge_product": _recurrent(inject=Merge(fusion=Product(width=8)), cell=RNN()),
        "merge_gated": _recurrent(inject=Merge(fusion=Gated()), cell=RNN()),
        "soft_attention": _attention(
            attend=SoftAttention(), cell=LSTM(), doubly_stochastic_weight=1.0
        ),
        "plain_attention": _attention(
            attend=SoftAttention(), cell=GRU(), gated=False, deep_output=False, tied=True
        ),
        "hard_attention": _attention(attend=HardAttention(), cell=LSTM()),
        "covering_attention": _attention(look_last=True, coverage_weight=1.0, cell=GRU()),
        "transformer": _transformer(),
        "transformer_prefix": _transformer(
            prefix=True, num_kv_heads=2, max_length=12, tied=False, pre_norm=False
        ),
        "transformer_today": _transformer(
            prefix=True,
            num_kv_heads=2,
            norm=RMSNorm(),
            activation=nn.silu,
            form=Form(
                head_width=6,
                use_bias=False,
                scale=0.3,
                soft_cap=20.0,
                query_key_norm=RMSNorm(),
                gated=True,
                sandwich=True,
                final_soft_cap=30.0,
                scale_words=False,
                add_places=False,
                output_bias=False,
            ),
            layers=(Layer(window=3, rotary=Rotary()), Layer(rotary=Rotary(base=100.0, factor=2.0))),
        ),
        "transformer_relative": _transformer(
            relative=8, digits=(3, 5), norm=RMSNorm(), form=Form(use_bias=False, scale=1.0)
        ),
    }
    return {
        name: Generator(decoder=decoder, image_encoder=Precomputed())
        for name, decoder in decoders.items()
    }


def language_models() -> dict[str, Generator]:
    """Name -> generator without a memory; together they have what only language models use."""
    decoders = {
        "lstm": _recurrent(cell=LSTM(), num_layers=2, carry=True, same_dropout=True, tied=True),
        "transformer": _transformer(max_length=12),
    }
    return {f"{name}_lm": Generator(decoder=decoder) for name, decoder in decoders.items()}


def text_generators() -> dict[str, Generator]:
    """Name -> model that reads `batch["text"]` [b n], such as `text_of(model)`."""
    reader = RecurrentEncoder(vocab_size=VOCAB_SIZE, width=8, embedding_width=16)
    pointer = PointerGenerator(
        vocab_size=VOCAB_SIZE,
        num_slots=NUM_SLOTS,
        width=16,
        embedding_width=16,
        attention_width=8,
        look_last=True,
        gated=False,
        coverage_weight=0.5,
        tied=True,
    )
    recurrent = RecurrentEncoder(cell=GRU(), vocab_size=VOCAB_SIZE, width=8, embedding_width=16)
    sizes = {"vocab_size": VOCAB_SIZE, "width": 16, "num_layers": 2, "num_heads": 4, "hidden": 32}
    return {
        "translation_recurrent": Generator(
            decoder=_attention(cell=GRU(), gated=False, tied=True),
            text_encoder=recurrent,
            joint_embedding=True,
        ),
        "translation_transformer": Generator(
            decoder=TransformerDecoder(**sizes),
            text_encoder=TransformerEncoder(**sizes),
            joint_embedding=True,
        ),
        "copying_transformer": Generator(
            decoder=CopyingTransformer(num_slots=NUM_SLOTS, **sizes),
            text_encoder=CopyableText(encoder=TransformerEncoder(**sizes), vocab_size=VOCAB_SIZE),
            joint_embedding=True,
        ),
        "pointer_generator": Generator(
            decoder=pointer,
            text_encoder=CopyableText(encoder=reader, vocab_size=VOCAB_SIZE),
            joint_embedding=True,
        ),
    }


def text_of(model: Generator) -> np.ndarray:
    """TEXT as the model may be given it: what it has no row for is UNK."""
    if hasattr(model.decoder, "num_slots"):
        return TEXT
    return np.where(TEXT < VOCAB_SIZE, TEXT, UNK)


def _recurrent(**fields) -> RecurrentDecoder:
    return RecurrentDecoder(vocab_size=VOCAB_SIZE, width=16, embedding_width=16, **fields)


def _attention(**fields) -> AttentionDecoder:
    return AttentionDecoder(
        vocab_size=VOCAB_SIZE, width=16, embedding_width=16, attention_width=8, **fields
    )


def _transformer(**fields) -> TransformerDecoder:
    return TransformerDecoder(
        vocab_size=VOCAB_SIZE, width=16, num_layers=2, num_heads=4, hidden=32, **fields
    )


def filled(shapes, seed: int = 0):
    """Variables of these shapes that nothing had to be compiled for, of a size at which mistakes show."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), leaf.dtype), shapes
    )
