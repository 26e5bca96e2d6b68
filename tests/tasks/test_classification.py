"""The loss of a classification, its divisor, and the names of its classes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import text_cnn
from tests.invariants import classification_checks
from vlm_jax.main import main
from vlm_jax.metrics.accuracy import Accuracy
from vlm_jax.metrics.base import total
from vlm_jax.tasks.classification import Chosen, Classification


@pytest.mark.parametrize(
    "check", classification_checks.CHECKS, ids=lambda check: check.__name__[6:]
)
def test_classification(check):
    check()


def test_macro_f1_by_hand():
    metric = Accuracy()
    pairs = [("a", "a"), ("a", "a"), ("a", "b"), ("b", "b"), ("c", "a")]  # gold, predicted
    found = metric.result(total(metric.stats(guess, (gold,)) for gold, guess in pairs))
    # F1 of a: 2*2/(3+3), of b: 2*1/(1+2), of c: 0
    assert found == pytest.approx({"accuracy": 60.0, "macro_f1": 100 * (2 / 3 + 2 / 3 + 0) / 3})


def test_labels_and_classes_that_do_not_fit_are_refused():
    class Model:
        num_classes = 3

    task = Classification(classes=("a", "b", "c"))
    batch = {"label": np.array([0, 2]), "id": np.array([7, 8]), "valid": np.ones(2, bool)}
    task.check(Model, batch)
    with pytest.raises(ValueError, match="example id 8: label is 3, expected 0 <= label < 3"):
        task.check(Model, {**batch, "label": np.array([0, 3])})
    with pytest.raises(ValueError, match="names 2 classes, the model has num_classes 3"):
        Classification(classes=("a", "b")).check(Model, batch)


def test_smoothing_is_in_the_objective_and_not_in_the_report():
    class Model:
        @staticmethod
        def apply(variables, batch, **_):
            return variables["params"], {"losses": {"sown": (jnp.array([1.0, 5.0]),)}}

    logits = np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)
    batch = {"label": np.array([0, 0]), "valid": np.array([True, False])}
    task = Classification(classes=("a", "b"), label_smoothing=0.2)
    objective, aux = task.loss(Model, {"params": logits}, batch, rngs={}, train=True)
    p = jax.nn.log_softmax(logits[0])
    np.testing.assert_allclose(aux.metrics["loss"].value(), -p[0], rtol=1e-6)
    # One valid row: what it sowed, 1, is added; that of the other row is not.
    np.testing.assert_allclose(objective, 1.0 - 0.9 * p[0] - 0.1 * p[1], rtol=1e-6)


def test_without_metrics_nothing_is_compared():
    task = Classification(classes=("a", "b"), metrics=())
    batch = {"id": np.array([0]), "valid": np.array([True])}
    chosen = Chosen(probabilities=np.array([[0.25, 0.75]], np.float32))
    assert task.score(chosen, batch, {}) == {}
    assert task.examples(chosen, batch) == [
        {"id": 0, "prediction": "b", "probabilities": {"a": 0.25, "b": 0.75}}
    ]


def test_predict_prints_the_class_and_as_json_its_probabilities(tmp_path, capsys):
    def run(*argv):
        assert main(text_cnn.rand, text_cnn.smoke, argv=[*argv, "--workdir", str(tmp_path)]) == 0
        return capsys.readouterr().out

    run("smoke", "train")
    (line,) = run("predict", "a fine film").splitlines()
    text, name = line.split("\t")
    assert text == "a fine film" and name in text_cnn.CLASSES
    found = json.loads(run("predict", "a fine film", "--json"))
    assert found["prediction"] == name and found["probabilities"].keys() == set(text_cnn.CLASSES)
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_label_outside_the_classes_is_wrong_and_costs_no_loss():
    class Model:
        @staticmethod
        def apply(variables, batch, **_):
            return variables["params"], {}

    logits = np.array([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0]], np.float32)
    batch = {"label": np.array([0, -1, -1]), "valid": np.array([True, True, False])}
    batch["id"] = np.arange(3)
    task = Classification(classes=("a", "b"), metrics=(Accuracy(), Accuracy(reference="answer")))
    loss, aux = task.loss(Model, {"params": logits}, batch, rngs={}, train=False)
    np.testing.assert_allclose(loss, -jax.nn.log_softmax(logits[0])[0], rtol=1e-6)
    assert aux.metrics["loss"].count == 1 and aux.metrics["accuracy"].value() == 50.0
    gold = {0: {"answer": ("a",)}, 1: {"answer": ("c",)}}
    chosen = Chosen(probabilities=np.asarray(jax.nn.softmax(logits)))
    for stats in task.score(chosen, batch, gold).values():
        assert Accuracy().result(stats)["accuracy"] == 50.0


def test_of_a_long_list_of_classes_the_likeliest_are_shown():
    task = Classification(classes=tuple(f"c{i}" for i in range(50)), metrics=())
    probabilities = np.arange(50, dtype=np.float32)[None] / 1225
    batch = {"id": np.array([0]), "valid": np.array([True])}
    (example,) = task.examples(Chosen(probabilities=probabilities), batch)
    assert example["prediction"] == "c49"
    assert list(example["probabilities"]) == [f"c{i}" for i in range(49, 29, -1)]
