"""Encoders, fusion and decoder as one model that writes tokens."""

import flax.linen as nn
from jaxtyping import Array, Float, Int

from vlm_jax.types import Batch, Cache, Features


class Generator(nn.Module, kw_only=True):
    """p(target | image, text), one token after another.

        batch["image"] -> image_encoder --+
                                          +-- fusion --> memory --> decoder --> logits
        batch["text"]  -> text_encoder ---+

    Without a fusion the memory is what the only encoder gives; without encoders there is none, and the
    model is a language model. `batch["target"]` holds what the decoder reads, already shifted by the task.

    With `joint_embedding` the text encoder reads with the decoder's table of word vectors, for two texts of one
    vocabulary; where the decoder is `tied` as well, one table does all three (Press and Wolf 2017, section 4).

    Where the text `text_reads_image` the text encoder looks at the image, and the memory is what it makes of both (the
    image-grounded text encoder of Li et al. 2022, arXiv 2201.12086, section 3.1).
    """

    decoder: nn.Module
    fusion: nn.Module | None = None
    image_encoder: nn.Module | None = None
    text_encoder: nn.Module | None = None
    joint_embedding: bool = False
    text_reads_image: bool = False

    def encode(self, batch: Batch, *, train: bool) -> Features | None:
        """What the decoder looks at: the memory."""
        image = text = None
        if self.image_encoder is not None:
            image = self.image_encoder(batch["image"], train=train)
        if self.text_encoder is not None:
            shared = {"embedding": self.decoder.embedding} if self.joint_embedding else {}
            if self.text_reads_image:
                shared, image = {**shared, "memory": image}, None
            text = self.text_encoder(batch["text"], train=train, **shared)
        if self.fusion is not None:
            return self.fusion(image, text, train=train)
        if image is not None and text is not None:
            raise ValueError(
                "Generator was given an image_encoder and a text_encoder but no fusion; expected one to "
                "make a single memory of both. Try fusion=Concat()."
            )
        return image if text is None else text

    def __call__(self, batch: Batch, *, train: bool) -> Float[Array, "b l v"]:
        """Logits of the token after each of batch["target"] [b l], whose texts batch["segment"] numbers where a row has
        several."""
        packed = {"segment": batch["segment"]} if "segment" in batch else {}
        return self.read(batch["target"], self.encode(batch, train=train), **packed, train=train)

    def read(
        self, tokens: Int[Array, "b l"], memory: Features | None, *, train: bool, **packed: Array
    ) -> Float[Array, "b l v"]:
        """Logits of the token after each of `tokens`, for a memory that is there already."""
        return self.decoder(tokens, memory, **packed, train=train)

    def initial_cache(self, memory: Features | None, batch_size: int, max_length: int) -> Cache:
        """What `step` starts from. Every leaf has the batch as its first axis."""
        return self.decoder.initial_cache(memory, batch_size, max_length)

    def step(
        self, token: Int[Array, "b"], cache: Cache, memory: Features | None
    ) -> tuple[Float[Array, "b v"], Cache]:
        """Logits of the token after `token`; the first token is BOS."""
        return self.decoder.step(token, cache, memory)

    def extend(
        self, tokens: Int[Array, "b l"], cache: Cache, memory: Features | None
    ) -> tuple[Float[Array, "b l v"], Cache]:
        """`step` for several tokens at once, such as a prompt; of decoders that have it."""
        return self.decoder.extend(tokens, cache, memory)
