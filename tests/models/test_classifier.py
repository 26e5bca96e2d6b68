"""The classifier: what it pools, what it refuses, and that it learns eight sentences by heart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.decoding.toys import compiled
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import Rows
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.fusion.concat import Concat
from vlm_jax.language.convolution import ConvolutionEncoder
from vlm_jax.language.recurrent import RecurrentEncoder
from vlm_jax.layers.pooling import max_pool, pool
from vlm_jax.models.classifier import Classifier
from vlm_jax.tasks.classification import Classification
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train.evaluation import Evaluation, evaluate
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.loop import train
from vlm_jax.train.optimizers import Adam
from vlm_jax.train.state import named_leaves
from vlm_jax.types import Features
from vlm_jax.vision.precomputed import Precomputed

V, WIDTH = 12, 4
TEXT = np.array([[1, 5, 6, 7, 2, 0, 0], [1, 8, 9, 2, 0, 0, 0], [1, 4, 5, 6, 7, 8, 2]], np.int32)


def classifiers():
    cnn = ConvolutionEncoder(vocab_size=V, embedding_width=WIDTH, windows=(2, 3), filters=3)
    lstm = RecurrentEncoder(vocab_size=V, width=3, embedding_width=WIDTH)
    image = Precomputed(width=6)
    return {
        "cnn": Classifier(num_classes=3, text_encoder=cnn, pooling=max_pool, dropout_rate=0.5),
        "lstm": Classifier(num_classes=3, text_encoder=lstm, pooling=pool, hidden=5),
        "image": Classifier(num_classes=3, image_encoder=image, pooling=pool),
        "both": Classifier(
            num_classes=3, image_encoder=image, text_encoder=cnn, fusion=Concat(), pooling=pool
        ),
    }


@pytest.fixture(scope="module")
def made():
    """Name -> variables and compiled logits."""
    image = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    batch = {"text": TEXT, "image": image, "valid": np.ones(3, bool)}
    found = {}
    for name, model in classifiers().items():
        variables = compiled(lambda key, m=model: m.init(key, batch, train=False))(
            jax.random.key(0)
        )
        found[name] = (variables, compiled(lambda v, b, m=model: m.apply(v, b, train=False)))
    return batch, found


@pytest.mark.parametrize("name", classifiers())
def test_padding_and_the_other_rows_change_nothing(made, name):
    batch, found = made
    variables, logits = found[name]
    expected = logits(variables, batch)
    longer = {**batch, "text": np.pad(TEXT, ((0, 0), (0, 5)))}
    np.testing.assert_allclose(logits(variables, longer), expected, atol=1e-6)
    rolled = {key: np.roll(value, 1, axis=0) for key, value in batch.items()}
    np.testing.assert_allclose(logits(variables, rolled), np.roll(expected, 1, axis=0), atol=1e-6)


@pytest.mark.parametrize("name", classifiers())
def test_gradients_reach_every_parameter(made, name):
    batch, found = made
    model, (variables, _) = classifiers()[name], found[name]

    def loss(params):
        return (
            model.apply({"params": params}, batch, train=False) * jnp.arange(1.0, 10).reshape(3, 3)
        ).sum()

    for path, gradient in named_leaves(compiled(jax.grad(loss))(variables["params"])).items():
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, path


def test_a_window_reads_the_words_around_its_middle(made):
    """By hand: values at t are relu(b + sum over i of W[i] x[t + i - (h-1)//2])."""
    encoder = ConvolutionEncoder(vocab_size=V, embedding_width=WIDTH, windows=(2, 3), filters=3)
    variables = {"params": made[1]["cnn"][0]["params"]["text_encoder"]}
    found = encoder.apply(variables, TEXT, train=False)
    params = jax.device_get(variables["params"])
    x = params["embedding"]["table"][TEXT] * (TEXT != 0)[..., None]
    for place, size in enumerate((2, 3)):
        kernel, bias = params[f"window_{size}"]["kernel"], params[f"window_{size}"]["bias"]
        padded = np.pad(x, ((0, 0), ((size - 1) // 2, size // 2), (0, 0)))
        for t in range(TEXT.shape[1]):
            value = bias + sum(padded[:, t + i] @ kernel[i] for i in range(size))
            value = np.maximum(value, 0) * (TEXT[:, t] != 0)[:, None]
            given = found.values[:, t, 3 * place : 3 * place + 3]
            np.testing.assert_allclose(given, value, atol=1e-5)
    np.testing.assert_array_equal(found.mask, TEXT != 0)


def test_the_largest_value_is_of_the_real_positions():
    values = jnp.array([[[1.0, 5.0], [3.0, -2.0], [9.0, jnp.nan]], [[-1.0, -2.0]] * 3])
    mask = jnp.array([[True, True, False], [True, True, True]])
    np.testing.assert_array_equal(max_pool(Features(values=values, mask=mask)), [[3, 5], [-1, -2]])
    nothing = Features(values=values, mask=jnp.zeros((2, 3), bool))
    np.testing.assert_array_equal(max_pool(nothing), np.zeros((2, 2)))


def test_a_classifier_without_encoder_or_fusion_says_so(made):
    both = classifiers()["both"]
    for model, words in (
        (Classifier(num_classes=2, pooling=pool), "given none"),
        (both.clone(fusion=None), "given both and no fusion"),
    ):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(lambda m=model: m.init(jax.random.key(0), made[0], train=False))


def test_eight_sentences_are_learned_by_heart_and_hostile_ones_have_a_class():
    good, bad = ("fine", "lovely", "great", "warm"), ("dull", "bad", "cold", "long")
    rows = tuple((f"a {w} film", 1) for w in good) + tuple((f"a {w} film", 0) for w in bad)
    source = Rows(names=("sentence", "label"), rows=rows)
    tokenizer = WordTokenizer(corpus=source, vocab_size=24, texts="sentence")
    tokenize = Tokenize(tokenizer=tokenizer, max_length=8, key="sentence", output="text")

    def over(source, is_train):
        return Pipeline(source=source, transforms=(tokenize,), batch_size=8, train=is_train)

    encoder = ConvolutionEncoder(vocab_size=24, embedding_width=8, filters=8)
    experiment = Experiment(
        model=Classifier(num_classes=2, text_encoder=encoder, pooling=max_pool, dropout_rate=0.2),
        task=Classification(classes=("negative", "positive")),
        train_data=over(source, True),
        num_steps=60,
        optimizer=Adam(learning_rate=1e-2, max_norm=3.0, max_norm_of=("linear/kernel$",)),
    )
    state = train(experiment)
    kept = (lambda *_: None,)
    found = evaluate(
        Evaluation(name="eight", data=over(source, False), reports=kept, perplexity=False),
        experiment.model,
        experiment.task,
        state.eval_variables,
    )
    assert found.numbers["accuracy"] == found.numbers["macro_f1"] == 100
    assert found.numbers["loss"] < 0.1
    assert [e["prediction"] for e in found.examples] == ["positive"] * 4 + ["negative"] * 4
    hostile = ("", "word " * 10_000, "\U0001f600", "nul \0", "lone \ud83d", "<eos> <pad>")
    source = Rows(names=("sentence", "label"), rows=tuple((text, 0) for text in hostile))
    found = evaluate(
        Evaluation(name="hostile", data=over(source, False), reports=kept),
        experiment.model,
        experiment.task,
        state.eval_variables,
    )
    for example in found.examples:
        assert sum(example["probabilities"].values()) == pytest.approx(1, abs=1e-5)
