"""Encoders, fusion, pooling and a linear layer as one model that chooses among classes."""

from collections.abc import Callable

import flax.linen as nn
import jax
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
    many with a relu stands before the last one. With `cosine_scale` a logit is so many times the cosine between the
    vector and that of the class, so that no class is favoured by its length.

    Sows which places the image has, "places" [b n], and how large the pooled Features are, their norms "sizes" [b m]:
    of a fusion that keeps the places, where it found something.
    """

    num_classes: int
    pooling: Callable[[Features], Array]
    image_encoder: nn.Module | None = None
    text_encoder: nn.Module | None = None
    fusion: nn.Module | None = None
    dropout_rate: float = 0.0  # of the pooled vector, and of the hidden layer
    hidden: int | None = None
    cosine_scale: float | None = None

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool) -> Float[Array, "b k"]:
        """Logits of the classes, in float32."""
        features = self.encode(batch, train=train)
        self.sow("intermediates", "sizes", _sizes(features))
        x = self.pooling(features)
        x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        x = x.astype(jnp.float32)
        if self.hidden is not None:
            x = nn.relu(nn.Dense(self.hidden, name="hidden_layer")(x))
            x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        if self.cosine_scale is None:
            return nn.Dense(self.num_classes, name="linear")(x)
        return self.cosine_scale * Cosine(self.num_classes, name="linear")(x)

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


class Cosine(nn.Module):
    """The cosine between x [b d] and the vector of each class, a column of the kernel [d k]."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "b d"]) -> Float[Array, "b k"]:
        shape = (x.shape[-1], self.num_classes)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        return _unit(x, axis=1) @ _unit(kernel, axis=0)


def _unit(x: Float[Array, "n m"], axis: int) -> Float[Array, "n m"]:
    """Of length one along the axis; zeros stay zeros, with a gradient that is finite."""
    return x * jax.lax.rsqrt(jnp.maximum((x**2).sum(axis, keepdims=True), 1e-24))


def _sizes(features: Features) -> Float[Array, "b m"]:
    squares = jnp.square(features.values.astype(jnp.float32)).sum(-1)
    return jnp.sqrt(jnp.where(features.mask, squares, 0))
