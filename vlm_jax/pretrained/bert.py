"""BERT (Devlin et al. 2019, arXiv 1810.04805): BertModel, BertForMaskedLM.

"[CLS]" is BOS and "[SEP]" is EOS: a text is BOS ... EOS, and a second one that follows, ... EOS, is the second segment. The
pooler of BertModel, a layer over "[CLS]", is left in the file, and so is what tells whether two texts belong together.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from vlm_jax.language.transformer import Form, TransformerDecoder, TransformerEncoder
from vlm_jax.layers.norm import LayerNorm
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained.places import (
    Place,
    Rows,
    Same,
    Tied,
    TokenRows,
    Unused,
    attention,
    below,
    linear,
    norm,
)
from vlm_jax.pretrained.settings import ACTIVATIONS, Family, Settings

# Converted from TensorFlow: scale and bias of a norm are gamma and beta there. The encoder's names may begin with "bert.",
# and then those of its norms may be older as well.
_WEIGHT, _BIAS = r"LayerNorm\.weight$", r"LayerNorm\.bias$"
_NORMS = ((_WEIGHT, "LayerNorm.gamma"), (_BIAS, "LayerNorm.beta"))
OLDER = (
    *_NORMS,
    (r"^bert\.", ""),
    *((rf"^bert\.(.*){name}", rf"\1{older}") for name, older in _NORMS),
    (r"^cls\.predictions\.bias$", "cls.predictions.decoder.bias"),
)
OLDER_MODEL = (
    *_NORMS,
    (r"^", "bert."),
    *((rf"^(.*){name}", rf"bert.\1{older}") for name, older in _NORMS),
)
NAMES = ("self.query", "self.key", "self.value", "output.dense")


def read_model(settings: Settings) -> Family:
    """The encoder alone, also of a file that fills gaps: a text to a vector for each token."""
    rows = settings.token_rows(settings.integer("vocab_size", 30522))
    form = _form(settings)
    encoder = TransformerEncoder(**sizes(settings, rows), form=form)
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    head = [name for place in head_places(rows, "cls.predictions", "") for name in place.theirs]
    found = (
        *encoder_places(encoder, rows),
        *_left("pooler.dense", "cls.seq_relationship"),
        *(Unused(theirs=name) for name in head),
    )
    return Family(encoder, found, (tokens,), older=OLDER_MODEL)


def read_masked(settings: Settings) -> Family:
    """Fills gaps: logits of each of batch["target"] itself, some of which are "[MASK]"."""
    settings.expect("tie_word_embeddings", True)
    rows = settings.token_rows(settings.integer("vocab_size", 30522))
    form = _form(settings, head_layer=True)
    decoder = TransformerDecoder(
        **sizes(settings, rows), form=form, causal=False, unscored=rows.unscored
    )
    found = below(
        (
            *decoder_places(decoder, rows, "bert."),
            *head_places(rows, "cls.predictions", "bert."),
            *_left("bert.pooler.dense", "cls.seq_relationship"),
        ),
        ours="decoder/",
    )
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    return Family(Generator(decoder=decoder), found, ({"target": tokens},), older=OLDER)


READERS = {"BertModel": read_model, "BertForMaskedLM": read_masked}


def sizes(
    settings: Settings,
    rows: TokenRows,
    *,
    num_layers: int = 12,
    num_heads: int = 12,
    max_length: int = 512,
    dropout_rate: float = 0.1,
) -> dict[str, Any]:
    """Fields of TransformerEncoder and TransformerDecoder, post-norm as in 2017. The keywords are what a file that leaves
    them out means."""
    settings.expect("position_embedding_type", "absolute")
    return {
        "vocab_size": len(rows.ids),
        "width": settings.integer("hidden_size", 768),
        "num_layers": settings.integer("num_hidden_layers", num_layers),
        "num_heads": settings.integer("num_attention_heads", num_heads),
        "hidden": settings.integer("intermediate_size", 3072),
        "max_length": settings.integer("max_position_embeddings", max_length),
        "activation": settings.choice("hidden_act", ACTIVATIONS, "gelu"),
        "norm": LayerNorm(epsilon=settings.number("layer_norm_eps", 1e-12)),
        "dropout_rate": settings.number("hidden_dropout_prob", dropout_rate),
        "attention_dropout_rate": settings.number("attention_probs_dropout_prob", dropout_rate),
        "pre_norm": False,
    }


def encoder_places(
    encoder: TransformerEncoder, rows: TokenRows, base: str = "", *, reads: bool = False
) -> tuple[Place, ...]:
    """As BertModel names its tensors; where it `reads` a memory, with cross-attention."""
    return _places(encoder, rows, base, "block", reads)


def decoder_places(
    decoder: TransformerDecoder, rows: TokenRows, base: str = "", *, reads: bool = False
) -> tuple[Place, ...]:
    """The same of a decoder, up to what scores the words."""
    return _places(decoder, rows, base, "blocks", reads)


def head_places(rows: TokenRows, theirs: str, base: str) -> Iterator[Place]:
    """Form.head_layer, and the scores by the table of word vectors."""
    yield from linear("head_layer", f"{theirs}.transform.dense")
    yield from norm("head_norm", f"{theirs}.transform.LayerNorm")
    yield Rows(ours="vocabulary/bias", theirs=f"{theirs}.bias", **rows.fields)
    yield Tied(theirs=f"{theirs}.decoder.bias", to=f"{theirs}.bias")
    yield Tied(theirs=f"{theirs}.decoder.weight", to=f"{base}embeddings.word_embeddings.weight")


def _places(module: Any, rows: TokenRows, base: str, block: str, reads: bool) -> tuple[Place, ...]:
    theirs = f"{base}embeddings"
    words = {"theirs": f"{theirs}.word_embeddings.weight", **rows.fields}
    found = [
        Rows(ours="embedding/words/table", **words),
        Same(ours="embedding/places/table", theirs=f"{theirs}.position_embeddings.weight"),
        *norm("embedding/norm", f"{theirs}.LayerNorm"),
        Unused(theirs=f"{theirs}.position_ids"),
    ]
    if module.form.num_segments:
        segments = f"{theirs}.token_type_embeddings.weight"
        found.append(Same(ours="embedding/segments/table", theirs=segments))
    inside = tuple(_block(module.num_heads, reads))
    for i in range(module.num_layers):
        found += below(inside, f"{block}_{i}/", f"{base}encoder.layer.{i}.")
    return tuple(found)


def _block(heads: int, reads: bool) -> Iterator[Place]:
    kinds = {"self_attention": "attention", "cross_attention": "crossattention"}
    for ours, theirs in kinds.items() if reads else [("self_attention", "attention")]:
        yield from attention(ours, theirs, heads, names=NAMES)
        yield from norm(f"{ours}_norm", f"{theirs}.output.LayerNorm")
    yield from linear("mlp/hidden_layer", "intermediate.dense")
    yield from linear("mlp/output_layer", "output.dense")
    yield from norm("mlp_norm", "output.LayerNorm")


def _form(settings: Settings, **fields) -> Form:
    settings.expect("is_decoder", False)
    settings.expect("add_cross_attention", False)
    segments = settings.integer("type_vocab_size", 2)
    return Form(num_segments=segments, norm_words=True, scale_words=False, **fields)


def _left(*layers: str) -> Iterator[Place]:
    return (Unused(theirs=f"{layer}.{name}") for layer in layers for name in ("weight", "bias"))
