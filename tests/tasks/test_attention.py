"""Which of the sown weights are shown, and in which order: the layers of a decoder are counted, not spelt."""

import jax.numpy as jnp

from vlm_jax.decoding.sampling import Greedy
from vlm_jax.tasks.attention import GenerationWithAttention, leaves_named
from vlm_jax.types import BOS, EOS, Features

LAYERS = 12


class Looks:
    """A decoder of twelve layers that writes EOS at once; layer k looks at place k alone."""

    def apply(self, variables, *arguments, method="__call__", **_):
        return getattr(self, method)(*arguments)

    def __call__(self, batch):
        rows, length = batch["target"].shape
        blocks = {
            f"block_{k}": {
                "attention": (jnp.eye(LAYERS)[None, None, [k] * length].repeat(rows, 0),)
            }
            for k in range(LAYERS)
        }
        return jnp.zeros((rows, length, 5)), {"intermediates": {"decoder": blocks}}

    def encode(self, batch):
        return Features(values=jnp.zeros((1, LAYERS, 1)), mask=jnp.ones((1, LAYERS), bool))

    def initial_cache(self, memory, rows, length):
        return jnp.zeros(rows)

    def step(self, token, cache, memory):
        return 9.0 * (jnp.arange(5) == EOS)[None].repeat(len(token), 0), cache


def test_layers_come_in_their_order_and_what_is_sown_twice_in_its_own():
    names = [f"block_{k}" for k in range(LAYERS)]
    tree = {name: {"deep": {"sown": (2 * k, 2 * k + 1)}} for k, name in enumerate(names)}
    assert leaves_named(tree, "sown") == list(range(2 * LAYERS))
    assert leaves_named({"sown": {"other": (1,)}}, "sown") == []


def test_the_last_of_twelve_layers_is_the_one_that_is_shown():
    task = GenerationWithAttention(tokenizer=None, decoding=Greedy(max_length=2))
    batch = {"valid": jnp.ones(1, bool), "target": jnp.array([[BOS, EOS]])}
    written = task.predict(Looks(), {}, batch, None)
    assert written.tokens[0, 0].tolist() == [EOS, 0]
    assert written.attention[0, 0].argmax() == LAYERS - 1
