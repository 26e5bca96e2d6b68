"""Text and image each say where to look in the other."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vlm_jax.layers.attention import masked_softmax
from vlm_jax.layers.pooling import cleared
from vlm_jax.types import Features


class ParallelCoAttention(nn.Module, kw_only=True):
    """One vector, v + q [b 1 d] with d the text's, after Lu et al. 2016 (arXiv 1606.00061, section 3.3, eq. 3-5).

        C   = tanh(Q W_b V')                          how much each word has to do with each place
        H_v = tanh(V W_v + C' (Q W_q))                H_q = tanh(Q W_q + C (V W_v))
        a_v = softmax over places of H_v w_v          a_q = softmax over words of H_q w_q
        v   = sum_n a_vn V_n                          q   = sum_t a_qt Q_t

    V are the image's places, projected to the text's width; Q the words. The paper does so for words, phrases and
    the whole question, and adds the three in layers of their own (eq. 7); here Q is what the text encoder gives.
    Sows a_v as "attention" [b n] and a_q as "text_attention" [b l].
    """

    attention_width: int = 512
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        v, q = _same_width(self, image, text)
        keys = nn.Dense(q.shape[-1], use_bias=False, dtype=self.dtype, name="affinity")(v)
        affinity = jnp.tanh(jnp.einsum("bld,bnd->bln", q, keys))
        from_image = _dense(self, "image_hidden")(v)
        from_text = _dense(self, "text_hidden")(q)
        of_image = jnp.tanh(from_image + jnp.einsum("bln,blk->bnk", affinity, from_text))
        of_text = jnp.tanh(from_text + jnp.einsum("bln,bnk->blk", affinity, from_image))
        seen, weights = _looked(self, v, of_image, image.mask, "image_scores")
        self.sow("intermediates", "attention", weights)
        read, weights = _looked(self, q, of_text, text.mask, "text_scores")
        self.sow("intermediates", "text_attention", weights)
        return _one_place(seen + read)


class AlternatingCoAttention(nn.Module, kw_only=True):
    """One vector, v + q [b 1 d] with d the text's, after Lu et al. 2016 (arXiv 1606.00061, section 3.3, eq. 6).

        look(X, g) = sum_i a_i X_i,    a = softmax over i of H w,    H = tanh(X W_x + g W_g)
        s = look(Q, 0)      v = look(V, s)      q = look(Q, v)

    V, Q and what is sown are as in ParallelCoAttention; "text_attention" is that of the last look.
    """

    attention_width: int = 512
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        v, q = _same_width(self, image, text)
        hidden = jnp.tanh(_dense(self, "summary_hidden")(q))
        summary, _ = _looked(self, q, hidden, text.mask, "summary_scores")
        hidden = _dense(self, "image_hidden")(v) + _dense(self, "image_guide")(summary)[:, None]
        seen, weights = _looked(self, v, jnp.tanh(hidden), image.mask, "image_scores")
        self.sow("intermediates", "attention", weights)
        hidden = _dense(self, "text_hidden")(q) + _dense(self, "text_guide")(seen)[:, None]
        read, weights = _looked(self, q, jnp.tanh(hidden), text.mask, "text_scores")
        self.sow("intermediates", "text_attention", weights)
        return _one_place(seen + read)


# ---- the parts, to be called in a compact method: the layers are the fusion's


def _same_width(fusion: nn.Module, image: Features, text: Features) -> tuple[Array, Array]:
    """[b n d] and [b l d], zero at padding, so that it adds nothing to a sum."""
    q = cleared(text).astype(fusion.dtype)
    v = nn.Dense(q.shape[-1], dtype=fusion.dtype, name="image")(cleared(image).astype(fusion.dtype))
    return cleared(image.replace(values=v)), q


def _dense(fusion: nn.Module, name: str) -> nn.Dense:
    return nn.Dense(fusion.attention_width, use_bias=False, dtype=fusion.dtype, name=name)


def _looked(
    fusion: nn.Module,
    x: Float[Array, "b n d"],
    hidden: Float[Array, "b n k"],
    mask: Bool[Array, "b n"],
    name: str,
) -> tuple[Float[Array, "b d"], Float[Array, "b n"]]:
    """The mean of x by weights, and the weights."""
    scores = nn.Dense(1, use_bias=False, dtype=fusion.dtype, name=name)(hidden)[..., 0]
    weights = masked_softmax(scores.astype(jnp.float32), mask)
    return jnp.einsum("bn,bnd->bd", weights.astype(x.dtype), x), weights


def _one_place(x: Float[Array, "b d"]) -> Features:
    return Features(values=x[:, None], mask=jnp.ones((len(x), 1), bool))
