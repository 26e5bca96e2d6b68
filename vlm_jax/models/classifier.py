"""Encoders, fusion, pooling and a linear layer as one model that chooses among classes."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.types import Batch, Features


class Classifier(nn.Module, kw_only=True):
    """p(class | image, text).

        batch["image"] -> image_encoder --+
                                          +-- fusion --> Features --> pooling --> dropout --> (hidden) linear --> logits
        batch["text"]  -> text_encoder ---+

    A text alone is sentiment, a picture alone image classification, both visual question answering. `pooling`
    makes one vector of the Features: layers.pooling.pool, the mean, max_pool or last_pool. With `hidden` a layer of so
    many with a relu stands before the last one. Sows which places the image has, "places" [b n], and how large the
    pooled Features are, their norms "sizes" [b m]: of a fusion that keeps the places, where it found something.
    """

    num_classes: int
    pooling: Callable[[Features], Array]
    image_encoder: nn.Module | None = None
    text_encoder: nn.Module | None = None
    fusion: nn.Module | None = None
    dropout_rate: float = 0.0  # of the pooled vector, and of the hidden layer
    hidden: int | None = None

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool) -> Float[Array, "b k"]:
        """Logits of the classes, in float32."""
        features = self.encode(batch, train=train)
        self.sow("intermediates", "sizes", _sizes(features))
        x = self.pooling(features)
        x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        if self.hidden is not None:
            x = nn.relu(nn.Dense(self.hidden, name="hidden_layer")(x.astype(jnp.float32)))
            x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        return nn.Dense(self.num_classes, name="linear")(x.astype(jnp.float32))

    def encode(self, batch: Batch, *, train: bool) -> Features:
        """What the classes are read from."""
        image = text = None
        if self.image_encoder is not None:
            image = self.image_encoder(batch["image"], train=train)
            self.sow("intermediates", "places", image.mask)
        if self.text_encoder is not None:
            text = self.text_encoder(batch["text"], train=train)
        if self.fusion is not None:
            return self.fusion(image, text, train=train)
        if (image is None) == (text is None):
            given = "none" if image is None else "both and no fusion"
            raise ValueError(
                "Classifier: expected an image_encoder, a text_encoder, or both with a fusion that makes one of "
                f"them; given {given}. Try fusion=Concat()"
            )
        return image if text is None else text


def _sizes(features: Features) -> Float[Array, "b m"]:
    squares = jnp.square(features.values.astype(jnp.float32)).sum(-1)
    return jnp.sqrt(jnp.where(features.mask, squares, 0))
