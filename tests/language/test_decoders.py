"""What must hold of every decoder, over a memory with padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.model_zoo import FEATURES, NUM_PLACES, filled, generators
from vlm_jax.language.recurrent import RecurrentDecoder
from vlm_jax.layers.initialisers import Uniform
from vlm_jax.train.state import named_leaves
from vlm_jax.types import BOS, EOS, PAD, Features

LENGTH = 7
ALL = generators()
# Rows of different lengths; the same rows with their padding on the left.
RIGHT = np.array(
    [[BOS, 5, 6, 7, EOS, 0, 0], [BOS, 8, 9, 10, 11, 12, EOS], [BOS, EOS, 0, 0, 0, 0, 0]]
)
REAL = RIGHT != PAD
LEFT = np.stack([np.roll(row, (row == PAD).sum()) for row in RIGHT])
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]], bool)


class Subject:
    """A decoder with its functions compiled once."""

    def __init__(self, decoder):
        self.decoder = decoder
        memory = jax.eval_shape(lambda: self.memory(np.zeros((3, NUM_PLACES, FEATURES)), MASK))
        self.variables = filled(
            jax.eval_shape(
                lambda m: decoder.init(jax.random.key(0), jnp.asarray(RIGHT), m, train=False),
                memory,
            )
        )
        self.values = np.random.default_rng(1).normal(size=(3, NUM_PLACES, FEATURES))
        self.run = jax.jit(self._run)

    @staticmethod
    def memory(values, mask):
        return Features(values=jnp.asarray(values, jnp.float32), mask=jnp.asarray(mask))

    def _run(self, tokens, memory):
        """Logits of a whole forward and of single steps [b l v], and the sown weights."""

        def apply(*arguments, **options):
            return self.decoder.apply(self.variables, *arguments, **options)

        whole, sown = apply(tokens, memory, train=False, mutable=["intermediates"])
        cache = apply(memory, 3, LENGTH, method="initial_cache")

        def body(cache, token):
            logits, cache = apply(token, cache, memory, method="step")
            return cache, logits

        _, steps = jax.lax.scan(body, cache, tokens.T)
        return whole, jnp.swapaxes(steps, 0, 1), weights_over_memory(sown)

    def __call__(self, tokens=RIGHT, values=None, mask=MASK):
        values = self.values if values is None else values
        return jax.device_get(self.run(jnp.asarray(tokens), self.memory(values, mask)))


def weights_over_memory(sown):
    leaves = jax.tree_util.tree_leaves_with_path(sown)
    return [leaf for path, leaf in leaves if path[-2].key == "attention"]


# A decoder does not know which fusion it has; two of them are enough.
@pytest.fixture(scope="module", params=[n for n in ALL if n not in ("merge_sum", "merge_product")])
def subject(request):
    return Subject(ALL[request.param].decoder)


def test_steps_equal_the_whole_at_every_position_on_either_side_of_padding(subject):
    for tokens in (RIGHT, LEFT):
        whole, steps, _ = subject(tokens)
        np.testing.assert_allclose(steps, whole, rtol=1e-4, atol=1e-4)


def test_padding_on_the_left_equals_padding_on_the_right(subject):
    right, left = subject(RIGHT)[0], subject(LEFT)[0]
    np.testing.assert_allclose(left[LEFT != PAD], right[REAL], rtol=1e-4, atol=1e-4)


def test_words_behind_change_nothing_before_them(subject):
    before = subject(RIGHT)[0]
    for t in range(1, LENGTH):
        changed = RIGHT.copy()
        changed[:, t] = 20
        after = subject(changed)[0]
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (after[:, t] != before[:, t]).any(axis=-1).all()


def test_what_lies_under_padding_of_the_memory_changes_nothing(subject):
    whole, steps, weights = subject()
    values = np.where(MASK[..., None], subject.values, 1e3)
    other_whole, other_steps, _ = subject(values=values)
    np.testing.assert_array_equal(whole, other_whole)
    np.testing.assert_array_equal(steps, other_steps)
    for w in weights:  # [b l n], or [b i l n] with heads
        hidden = np.broadcast_to(~MASK.reshape(3, *[1] * (w.ndim - 2), NUM_PLACES), w.shape)
        assert (w[hidden] == 0).all()
        assert (w.sum(-1) < 1 + 1e-5).all()  # a prefix shares its weight with the text
        assert (w.sum(-1)[..., 0] > 0).all()


def test_the_memory_of_each_row_matters_to_that_row_alone(subject):
    before = subject()[0]
    values = subject.values.copy()
    values[1, 0] += 1.0
    change = np.abs(subject(values=values)[0] - before).max(axis=(1, 2))
    assert change[1] > 1e-4 and change[0] == change[2] == 0


def test_a_memory_of_padding_alone_gives_finite_logits(subject):
    mask = MASK & np.array([[1], [1], [0]], bool)
    whole, steps, weights = subject(mask=mask)
    assert np.isfinite(whole).all() and np.isfinite(steps).all()
    assert all((w[2] == 0).all() for w in weights)


def test_decoders_with_attention_sow_it():
    sowing = {"soft_attention", "plain_attention", "hard_attention", "covering_attention"} | {
        "transformer",
        "transformer_prefix",
        "transformer_today",
        "transformer_relative",
    }
    for name, model in ALL.items():
        memory = Subject.memory(np.zeros((3, NUM_PLACES, FEATURES)), MASK)

        def run(model=model, memory=memory):
            _, variables = model.decoder.init_with_output(
                jax.random.key(0), RIGHT, memory, train=False
            )
            return model.decoder.apply(
                variables, RIGHT, memory, train=False, mutable=["intermediates"]
            )[1]

        found = weights_over_memory(jax.eval_shape(run))
        assert bool(found) == (name in sowing)
        for leaf in found:
            assert leaf.shape in ((3, LENGTH, NUM_PLACES), (3, 4, LENGTH, NUM_PLACES))


def test_all_matrices_are_drawn_from_the_initialiser_that_is_given():
    decoder = RecurrentDecoder(
        vocab_size=9, width=4, embedding_width=4, num_layers=2, matrix_init=Uniform(scale=0.01)
    )
    tokens = jnp.ones((1, 2), int)
    init = jax.jit(lambda key: decoder.init(key, tokens, None, train=False))
    params = init(jax.random.key(0))["params"]
    matrices = {name: leaf for name, leaf in named_leaves(params).items() if leaf.ndim == 2}
    assert len(matrices) == 6
    for name, leaf in matrices.items():
        assert 0.005 < np.abs(leaf).max() <= 0.01, name
