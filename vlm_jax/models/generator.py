"""Encoders + fusion + decoder: everything that writes tokens.

    image -- image_encoder --\\
                              fusion -- memory -- decoder -- logits of the next token
    text ---- text_encoder --/
"""

import flax.linen as nn

from vlm_jax.types import Array, Batch, Cache, Features


class Generator(nn.Module):
    """VLM(x, I) = CNN(I) (+) RNN(x): parts arrive built, as fields, and each may be left out.

    Reads batch["image"] where there is an image encoder, batch["text"] where there is a text encoder, and
    batch["target"] [b l], the tokens that are already written.
    """

    decoder: nn.Module
    fusion: nn.Module | None = None
    image_encoder: nn.Module | None = None
    text_encoder: nn.Module | None = None

    def __call__(self, batch: Batch, *, train: bool) -> Array:
        """Logits Float[b l v]: row t is of the token after target[: t + 1]."""
        return self.decoder(batch["target"], self.encode(batch, train=train), train=train)

    def encode(self, batch: Batch, *, train: bool) -> Features | None:
        """What the decoder may look at; None for a language model."""
        image = text = None
        if self.image_encoder is not None:
            image = self.image_encoder(batch["image"], train=train)
        if self.text_encoder is not None:
            text = self.text_encoder(batch["text"], train=train)
        if self.fusion is not None:
            return self.fusion(image, text, train=train)
        if image is not None and text is not None:
            raise ValueError(
                "a Generator with two encoders needs a fusion, such as fusion.concat.Concat()"
            )
        return image if text is None else text

    def initial_cache(self, memory: Features | None, batch_size: int, max_length: int) -> Cache:
        return self.decoder.initial_cache(memory, batch_size, max_length)

    def step(self, token: Array, cache: Cache, memory: Features | None) -> tuple[Array, Cache]:
        """Logits Float[b v] after one more token Int[b], and the new cache."""
        return self.decoder.step(token, cache, memory)
