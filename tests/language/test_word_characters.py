import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.decoding.toys import compiled
from vlm_jax.language.word_characters import CharacterCnn, WordCharacterEncoder
from vlm_jax.types import UNK


def test_a_filter_gives_its_largest_answer_over_windows_of_letters():
    cnn = CharacterCnn(num_letters=6, width=1, filters=1, window=3)
    params = {
        "letters": {"table": jnp.array([[9.0], [0.0], [0.0], [0.0], [2.0], [-1.0]])},
        "filters": {"kernel": jnp.array([[1.0], [10.0], [100.0]]), "bias": jnp.array([0.5])},
    }
    words = jnp.array([[[4, 5, 4, 0], [5, 0, 0, 0], [0, 0, 0, 0]]])
    found = cnn.apply({"params": params}, words)[0, :, 0]
    # 4 5 4: (., 2, -1) 20 - 100, (2, -1, 2) 2 - 10 + 200, (-1, 2, .) -1 + 20. PAD's vector, 9, is not read.
    np.testing.assert_allclose(found, [192.5, 0.0, 0.0])


@pytest.fixture(scope="module")
def noisy():
    """(words, letters, what the encoder gives for a key)"""
    encoder = WordCharacterEncoder(
        vocab_size=9,
        word_width=4,
        characters=CharacterCnn(num_letters=6, width=2, filters=4),
        width=3,
        num_layers=2,
        word_dropout_rate=0.5,
        input_dropout_rate=0.5,
        rnn_dropout_rate=0.5,
    )
    words = jnp.tile(jnp.array([[4, 4, 4, 4, 4, 4, 0]]), (4, 1))
    letters = jnp.where(words[..., None] > 0, jnp.array([4, 5, 4]), 0)
    variables = encoder.init(jax.random.key(0), words, letters, train=False)

    def run(key):
        seen = []

        def watch(next_fun, args, kwargs, context):
            out = next_fun(*args, **kwargs)
            name = type(context.module).__name__
            if context.method_name != "__call__":
                return out
            if name == "Embedding" and context.module.name == "words":
                seen.append(("words", args[0]))
            if name == "Dropout" and context.module.rate:
                seen.append(("dropout", args[0], out))
            return out

        with nn.intercept_methods(watch):
            features = encoder.apply(variables, words, letters, train=True, rngs={"dropout": key})
        return (
            features,
            [entry[1:] for entry in seen if entry[0] == "words"],
            [entry[1:] for entry in seen if entry[0] == "dropout"],
        )

    return words, compiled(run)


def test_words_are_dropped_for_unk_and_padding_never_is(noisy):
    words, run = noisy
    read = np.concatenate([run(jax.random.key(k))[1][0][0] for k in range(8)])
    assert set(read[:, :-1].ravel().tolist()) == {4, UNK}
    assert 0.3 < (read[:, :-1] == UNK).mean() < 0.7
    assert (read[:, -1] == 0).all()


def test_dropout_has_one_mask_for_all_words_of_a_sentence(noisy):
    _, run = noisy
    features, _, dropouts = run(jax.random.key(0))
    assert len(dropouts) == 2
    for before, after in dropouts:
        before, after = np.asarray(before)[:, :-1], np.asarray(after)[:, :-1]
        dropped = (after == 0) & (before != 0)
        kept = (after != 0) & (before != 0)
        assert dropped.any() and kept.any()
        assert not (
            dropped.any(1) & kept.any(1)
        ).any()  # a feature is dropped everywhere or nowhere
        np.testing.assert_allclose(after[kept], 2 * before[kept], rtol=1e-5)
    assert not np.asarray(features.mask)[:, -1].any()
    assert (np.asarray(features.values)[:, -1] == 0).all()
