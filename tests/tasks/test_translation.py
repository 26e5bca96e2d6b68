"""What a translation says of itself: its words, those of the source, and the attention between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.data.source import Rows
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.language.attention_decoder import AttentionDecoder
from vlm_jax.language.recurrent import RecurrentEncoder
from vlm_jax.language.transformer import TransformerDecoder, TransformerEncoder
from vlm_jax.layers.recurrent import GRU
from vlm_jax.models.generator import Generator
from vlm_jax.tasks.translation import Translation
from vlm_jax.text.tokenizers import BpeTokenizer
from vlm_jax.train.state import count_parameters
from vlm_jax.types import BOS, EOS, PAD

CORPUS = Rows(names=("en", "de"), rows=(("a dog <eos>", "ein Hund"), ("two", "zwei")))
BPE = BpeTokenizer(corpus=CORPUS, vocab_size=264, texts=("en", "de"))
LENGTH = 6
SIZES = {"vocab_size": 264, "width": 8, "num_layers": 2, "num_heads": 2, "hidden": 8}
MODELS = {
    "transformer": Generator(
        decoder=TransformerDecoder(**SIZES),
        text_encoder=TransformerEncoder(**SIZES),
        joint_embedding=True,
    ),
    "recurrent": Generator(
        decoder=AttentionDecoder(
            cell=GRU(), vocab_size=264, width=8, embedding_width=8, attention_width=4, gated=False
        ),
        text_encoder=RecurrentEncoder(vocab_size=264, width=4, embedding_width=8),
        joint_embedding=True,
    ),
}


def batch():
    """Sources of four and two words and a filled-up row, as long as what is written: [3 6]."""
    text = np.full((3, LENGTH), PAD, np.int32)
    text[0] = [BOS, *BPE.encode("dogs")[:4], EOS]
    text[1, :4] = [BOS, *BPE.encode("zz")[:2], EOS]
    target = np.tile(np.array([BOS, 70, 71, EOS, PAD, PAD], np.int32), (3, 1))
    valid, ids = np.array([True, True, False]), np.array([7, 9, -1])
    return {"text": text, "target": target, "valid": valid, "id": ids}


@pytest.mark.parametrize("name", MODELS)
def test_each_word_has_the_weights_of_each_word_of_the_source(name):
    model, data = MODELS[name], batch()
    task = Translation(tokenizer=BPE, decoding=Greedy(max_length=LENGTH, banned=(EOS + 1,)))
    variables = jax.jit(lambda: model.init(jax.random.key(0), data, train=False))()
    predict = jax.jit(lambda v, b: task.predict(model, v, b, jax.random.key(0)))
    written = jax.device_get(predict(variables, data))
    assert written.attention.shape == (3, LENGTH, LENGTH)
    examples = task.examples(written, data)
    assert [example["id"] for example in examples] == [7, 9]
    for row, example in enumerate(examples):
        kept = data["text"][row][data["text"][row] > EOS]
        assert example["source_words"] == [BPE.decode([token]) for token in kept]
        assert "".join(example["words"]) == example["prediction"]
        weights = example["attention"]
        assert weights.shape == (len(example["words"]), len(kept))
        # What is missing to 1 is on BOS and EOS of the source; nothing is on its padding.
        whole = written.attention[row][: len(weights)]
        np.testing.assert_allclose(whole.sum(1), 1, rtol=1e-5)
        assert (whole[:, data["text"][row] == PAD] == 0).all()
        np.testing.assert_array_equal(weights, whole[:, 1 : 1 + len(kept)])


def test_a_token_that_the_encoder_has_no_row_for_is_refused():
    task, data = Translation(tokenizer=BPE, decoding=None), batch()
    task.check(MODELS["transformer"], data)
    data["text"][1, 1] = 264
    with pytest.raises(ValueError, match=r"id 9: text\[1\] is 264, expected 0 <= token < 264"):
        task.check(MODELS["transformer"], data)


def test_the_pieces_are_those_of_both_languages_and_eos_in_a_text_is_text():
    tokens = BPE.encode("a <eos> b")
    assert EOS not in tokens and BPE.decode(tokens) == "a <eos> b"
    rows = Rows(names=("en", "de"), rows=(("aaaa", "qqqq"),) * 4)
    alone, both = (
        BpeTokenizer(corpus=rows, vocab_size=264, texts=texts) for texts in ("en", ("en", "de"))
    )
    assert (len(alone.encode("aaaa")), len(alone.encode("qqqq"))) == (1, 4)
    assert (len(both.encode("aaaa")), len(both.encode("qqqq"))) == (1, 1)
    with pytest.raises(ValueError, match="no 'fr'"):
        BpeTokenizer(corpus=rows, vocab_size=264, texts="fr").encode("a")


def test_one_table_does_for_source_target_and_output():
    data = batch()
    tied = MODELS["transformer"]

    def number(model):
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), data, train=False))
        return count_parameters(shapes["params"])

    assert number(tied.clone(joint_embedding=False)) - number(tied) == 264 * 8


def test_transformer_tiny_has_the_paper_s_size():
    """Wu et al. 2021, table 2: 2.6 million parameters, with 9,716 and more words in one table."""
    from experiments.transformer_tiny import paper

    model, text = paper().model, jnp.ones((1, 4), jnp.int32)
    data = {"text": text, "target": text}
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), data, train=False))
    assert abs(count_parameters(shapes["params"]) / 1e6 - 2.6) < 0.05
