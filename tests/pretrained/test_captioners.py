"""What GIT and BLIP are trained by and looked at with, beyond the parity of what they compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.pretrained import published
from vlm_jax.pretrained import weights
from vlm_jax.pretrained.places import TokenRows
from vlm_jax.tasks.generation import Generation
from vlm_jax.types import BOS, EOS


@pytest.mark.parametrize("name", ["git_a", "blip_a"])
def test_the_loss_is_the_log_probability_of_each_word_given_those_before_it(name, tmp_path):
    """By the reference's logits, label by label: shifted once; some implementations of GIT shift twice."""
    given = published.Stored(name)
    published.write(tmp_path / name, given.config)
    found = weights.load(str(tmp_path / name))
    tokens = given.arrays["tokens"].astype(np.int32)
    batch = {"image": given.arrays["image"], "target": tokens, "valid": jnp.ones(2, bool)}
    task = Generation(tokenizer=None, decoding=None)
    loss, _ = jax.jit(lambda v: task.loss(found.model, v, batch, rngs={}, train=False))(
        found.variables
    )
    log_probs = jax.nn.log_softmax(given.arrays["logits"])

    def chain(ahead):
        """The mean over rows and places t of -log p(token t + ahead | tokens up to t)."""
        rows, places = np.arange(2)[:, None], np.arange(tokens.shape[1] - ahead)
        return -np.mean(log_probs[rows, places, tokens[:, ahead:]])

    np.testing.assert_allclose(loss, chain(1), rtol=1e-5)
    assert abs(loss - chain(2)) > 0.01


def test_an_answer_depends_on_the_picture_through_the_question_alone(tmp_path):
    given = published.Stored("blip_qa")
    published.write(tmp_path / "blip", given.config)
    found = weights.load(str(tmp_path / "blip"))
    text = jnp.array(given.arrays["text"], jnp.int32)

    @jax.jit
    def memory(image):
        batch = {"image": image, "text": text}
        return found.model.apply(found.variables, batch, train=False, method="encode")

    image = given.arrays["image"]
    first, other = memory(image), memory(image[::-1])
    np.testing.assert_array_equal(first.mask, text != 0)
    assert first.values.shape == (*text.shape, 24)
    assert (np.abs(first.values - other.values).max(-1)[first.mask] > 1e-3).all()


def test_begin_and_end_of_what_is_written_change_places_with_what_stood_there():
    rows = TokenRows((0, 5, 6, 4, None, 1, 2, 3))
    assert rows.with_roles({BOS: 3, EOS: 6}).ids == (0, 3, 6, 4, None, 1, 2, 5)
    assert rows.with_roles({BOS: 6, EOS: 3}).ids == (0, 6, 3, 4, None, 1, 2, 5)
    with pytest.raises(ValueError, match="one of the table's 8 tokens, found id 9"):
        rows.with_roles({BOS: 9})
