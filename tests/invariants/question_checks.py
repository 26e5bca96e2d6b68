"""What must hold of questions, of their answers, of how answers are scored, and of models that answer.

The checks take nothing, but those in ANSWER_CHECKS, which take `Answerers`.
"""

import functools
import itertools
import tempfile
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace as Part
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from experiments import film, fusion_study, stacked_attention, vqa_lstm_cnn
from tests import model_zoo
from tests.decoding.toys import compiled
from tests.metrics.tiny_wordnet import write_wordnet
from vlm_jax.data.datasets import daquar
from vlm_jax.data.datasets.scenes_questions import ANSWERS
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.questions import Answered, EachQuestion
from vlm_jax.data.source import Rows
from vlm_jax.data.text_transforms import Keep, Label, Tokenize
from vlm_jax.layers.pooling import last_pool
from vlm_jax.metrics import wups
from vlm_jax.metrics.accuracy import Accuracy
from vlm_jax.metrics.base import score
from vlm_jax.metrics.by_kind import ByKind
from vlm_jax.metrics.majority import Majority
from vlm_jax.metrics.vqa_accuracy import VqaAccuracy
from vlm_jax.metrics.wups import Wups
from vlm_jax.tasks.classification import Chosen, Classification
from vlm_jax.tasks.vqa import QuestionAnswering
from vlm_jax.text import normalize
from vlm_jax.text.answers import AnswerList
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train.state import named_leaves
from vlm_jax.types import PAD
from vlm_jax.vision.precomputed import Precomputed

# ---- the official accuracy


def _share(prediction, people):
    return VqaAccuracy().stats(prediction, people).right


def check_three_of_ten_are_nine_tenths():
    expected = [0, Fraction(3, 10), Fraction(6, 10), Fraction(9, 10), 1, 1, 1, 1, 1, 1]
    for same, share in enumerate(expected):
        people = ("red",) * same + tuple(f"other {i}" for i in range(10 - same))
        assert _share("red", people) == share, same
    assert _share("red", ("red",) * 10) == 1
    assert _share("red", ("blue",) * 10) == 0


def check_the_share_is_the_loop_of_the_official_script():
    rng = np.random.default_rng(0)
    words = ("red", "Red.", "the red", "blue", "2", "two", "T-shirt", "t shirt")
    for _ in range(300):
        people = tuple(rng.choice(words, rng.integers(1, 11)))
        prediction = str(rng.choice(words))
        given, answers = prediction, people
        if len(set(people)) > 1:
            given = normalize.vqa_answer(prediction)
            answers = [normalize.vqa_answer(each) for each in people]
        each = []
        for i in range(len(answers)):
            others = [answer for j, answer in enumerate(answers) if j != i]
            each.append(min(1.0, sum(answer == given for answer in others) / 3))
        assert abs(float(_share(prediction, people)) - sum(each) / len(each)) < 1e-12


def check_where_all_agree_nothing_is_normalised():
    assert _share("T-shirt", ("T-shirt",) * 10) == 1
    assert _share("t shirt", ("T-shirt",) * 10) == 0
    assert _share("two", ("two",) * 10) == 1
    assert _share("2", ("two",) * 10) == 0
    assert _share(" two\n", ("two\t",) * 10) == 1
    assert _share("T-Shirt.", ("T-shirt",) * 9 + ("shirt",)) == 1
    assert _share("2", ("two",) * 9 + ("3",)) == 1


def check_answers_are_normalised_once():
    people = ("." * 40 + "x",) * 3 + ("y",) * 7
    assert _share("." * 8 + "x", people) == 0  # each loses 32 periods, once
    assert _share("." * 40 + "x", people) == Fraction(9, 10)


VQA_CHECKS = (
    check_three_of_ten_are_nine_tenths,
    check_the_share_is_the_loop_of_the_official_script,
    check_where_all_agree_nothing_is_normalised,
    check_answers_are_normalised_once,
)

# ---- WUPS


@functools.cache
def _folder():
    return str(write_wordnet(Path(tempfile.mkdtemp(prefix="wordnet_"))))


def _wups(prediction, truth):
    """(at 0.9, at 0.0) of one question, over the tiny WordNet."""
    for cached in (wups._score, wups._similarity, wups._wordnet):
        cached.cache_clear()
    with mock.patch.object(wups, "find_wordnet", _folder):
        found = score(Wups(), {1: prediction}, {1: (truth,)})
    return tuple(found[name] / 100 for name in ("wups_0.9", "wups_0.0"))


def check_wups_by_hand():
    expected = {
        ("chair", "chair"): (1.0, 1.0),
        ("chair", "table"): (0.075, 0.75),  # below the threshold: a tenth
        ("seat", "chair"): (1.0, 1.0),
        ("chair", "dog"): (0.05, 0.5),
        ("nonsense", "nonsense"): (1.0, 1.0),
        ("nonsense", "chair"): (0.0, 0.0),
        ("chair, table", "chair"): (0.075, 0.75),  # table is covered by chair
        ("chair", "chair, table"): (0.075, 0.75),  # and the other way round
        ("table, chair", "chair, table"): (1.0, 1.0),
        ("chair, dog", "table, dog"): (0.075, 0.75),
        ("dog, dog", "chair, table"): (0.0025, 0.25),  # a product, not a mean
        ("", "chair"): (0.0, 0.0),
        ("fido", "dog"): (0.1 * 8 / 9, 8 / 9),
    }
    for (prediction, truth), values in expected.items():
        np.testing.assert_allclose(
            _wups(prediction, truth), values, err_msg=f"{prediction} {truth}"
        )


def check_at_a_threshold_a_similarity_counts_whole():
    for cached in (wups._score, wups._similarity, wups._wordnet):
        cached.cache_clear()
    at = {t: wups._similarity("chair", "table", t, _folder()) for t in (0.7, 0.75, 0.76)}
    np.testing.assert_allclose([at[0.7], at[0.75], at[0.76]], [0.75, 0.75, 0.075])


WUPS_CHECKS = (check_wups_by_hand, check_at_a_threshold_a_similarity_counts_whole)

# ---- from a picture with questions to a batch

PICTURES = Rows(
    names=("image", "questions", "answers", "question_types"),
    rows=(
        (0.5, ("is it red", "how many circles"), ("yes", "2"), ("existence", "count")),
        (
            1.5,
            ("is it red", "what is it", "how many"),
            ("no", "a cup", "2"),
            ("existence", "what", "count"),
        ),
        (2.5, ("what is it",), ("a dog",), ("what",)),
    ),
)
ASKED = [  # picture, question, answer
    (image, question, answer)
    for image, questions, answers, _ in PICTURES.rows
    for question, answer in zip(questions, answers)
]
CLASSES = ("yes", "no", "2", "a cup")


def _pipeline(source, train=False):
    tokenizer = WordTokenizer(corpus=PICTURES, vocab_size=16, texts="questions")
    tokenize = Tokenize(tokenizer=tokenizer, max_length=6, key="question", output="text")
    transforms = (tokenize, Label(classes=CLASSES), Keep(keys=("image", "text", "label")))
    return Pipeline(source=source, transforms=transforms, batch_size=3, train=train), tokenizer


def _rows(pipeline, batches=None):
    """Row by row: id -> (image, the question's words, label)."""
    found = {}
    for _, batch in itertools.islice(pipeline.batches(), batches):
        for row in np.flatnonzero(batch["valid"]):
            found[int(batch["id"][row])] = tuple(
                batch[key][row] for key in ("image", "text", "label")
            )
    return found


def check_every_question_meets_its_own_picture_and_answer():
    pipeline, tokenizer = _pipeline(EachQuestion(PICTURES))
    rows = _rows(pipeline)
    assert len(rows) == len(ASKED)
    for (image, question, answer), (id, row) in zip(ASKED, rows.items()):
        assert row[0] == image and tokenizer.decode(row[1]) == question, id
        assert row[2] == (CLASSES.index(answer) if answer in CLASSES else -1), id
        texts = pipeline.source.references[id]
        assert texts["question"] == (question,) and texts["answer"] == (answer,)
        assert PICTURES.rows[pipeline.source.picture_of(id)][0] == image


def check_the_question_says_nothing_of_its_answer():
    """Its tokens are its words, begin and end: two of one wording have the same, whatever the answers are."""
    pipeline, _ = _pipeline(EachQuestion(PICTURES))
    tokens = [row[1].tolist() for row in _rows(pipeline).values()]
    for (_, question, _), row in zip(ASKED, tokens):
        assert len(row) - row.count(PAD) == len(question.split()) + 2, (question, row)
    assert tokens[0] == tokens[2] and tokens[3] == tokens[5]  # is it red; what is it


def check_training_leaves_out_what_cannot_be_answered():
    source = Answered(EachQuestion(PICTURES), CLASSES)
    rows = _rows(_pipeline(source, train=True)[0], batches=5)
    assert len(rows) == len(source) == len(ASKED) - 1
    assert all(row[2] >= 0 for row in rows.values())


def check_the_answers_are_those_of_training():
    answers = AnswerList(corpus=PICTURES, size=8)
    assert tuple(answers) == ("2", "a cup", "a dog", "no", "yes", "", "", "")
    assert Label(classes=answers)({"answer": ""})["label"] == -1


def check_daquar_does_not_name_its_picture():
    named = {
        "what is under the pan in the image12 ?": "what is under the pan",
        "what is in the image12 behind the door in the image12 ?": "what is in the image behind the door",
    }
    for question, expected in named.items():
        assert daquar.without_image(question) == expected


DATA_CHECKS = (
    check_every_question_meets_its_own_picture_and_answer,
    check_the_question_says_nothing_of_its_answer,
    check_training_leaves_out_what_cannot_be_answered,
    check_the_answers_are_those_of_training,
    check_daquar_does_not_name_its_picture,
)

# ---- scores of answers


def _scored(predictions, labels):
    """The numbers of a task over ASKED."""
    gold = EachQuestion(PICTURES).references
    right = Accuracy(reference="answer")
    task = Classification(
        classes=CLASSES,
        metrics=(right, ByKind(metric=right), Majority(corpus=EachQuestion(PICTURES)), Accuracy()),
    )
    probabilities = np.eye(len(CLASSES), dtype=np.float32)[predictions]
    batch = {
        "id": np.array(list(gold)),
        "valid": np.ones(len(gold), bool),
        "label": np.array(labels),
    }
    stats = task.score(Chosen(probabilities=probabilities), batch, gold)
    first = {name: value for name, value in stats.items() if not name.endswith("3")}
    return task.report(first), task.report(
        {name: stats[name] for name in stats if name not in first}
    )


def check_an_answer_outside_the_list_is_wrong():
    labels = [0, 2, 1, 3, 2, -1]  # of yes, 2, no, a cup, 2, a dog
    numbers, by_label = _scored([0, 2, 1, 3, 2, 3], labels)
    np.testing.assert_allclose(numbers["accuracy"], 100 * 5 / 6)
    np.testing.assert_allclose(by_label["accuracy"], 100 * 5 / 6)


def check_each_type_has_its_accuracy_and_the_majority_stands_beside():
    numbers, _ = _scored([0, 3, 0, 3, 2, 0], [0, 2, 1, 3, 2, -1])
    assert numbers["accuracy"] == 50.0
    kinds = {name: value for name, value in numbers.items() if name.startswith("accuracy_")}
    # existence: no before yes by alphabet, what: a cup before a dog, count: 2
    majority = 100 * (1 + 1 + 2) / 6
    expected = {"existence": 50.0, "count": 50.0, "what": 50.0, "majority": majority}
    assert kinds == {f"accuracy_{name}": value for name, value in expected.items()}


SCORE_CHECKS = (
    check_an_answer_outside_the_list_is_wrong,
    check_each_type_has_its_accuracy_and_the_majority_stands_beside,
)

# ---- models: of the experiments, tiny, in one compiled function each

TEXT = np.array([[1, 5, 6, 7, 2, 0, 0], [1, 5, 6, 2, 0, 0, 0], [1, 8, 9, 5, 6, 7, 2]], np.int32)


def _apart(first, second):
    """How far two rows of probabilities [b k] are apart, as logarithms: one near 1 hides what the others do."""
    least = np.finfo(np.float32).tiny
    logs = [np.log(np.maximum(each, least)) for each in (first, second)]
    return np.abs(logs[0] - logs[1]).max(-1)


class Answerers:
    """Tiny models of `film`, `stacked_attention` and `vqa_lstm_cnn`, and a batch of three questions."""

    image_shape, places = (64, 64, 3), 64
    sizes = {}  # by which the parameters of a model are multiplied
    without_a_map = {"vqa_lstm_cnn"}  # one vector

    @functools.cached_property
    def models(self):
        modules = (film, stacked_attention, vqa_lstm_cnn)
        return {m.__name__.split(".")[-1]: m.smoke().model for m in modules}

    @functools.cached_property
    def batch(self):
        rng = np.random.default_rng(0)
        return {
            "image": rng.normal(size=(3, *self.image_shape)).astype(np.float32),
            "text": TEXT,
            "label": np.array([0, 3, 1]),
            "valid": np.ones(3, bool),
            "id": np.arange(3),
        }

    @functools.cached_property
    def task(self):
        return QuestionAnswering(classes=tuple(map(str, range(len(ANSWERS)))))

    @functools.cached_property
    def variables(self):
        found = {}
        for seed, (name, model) in enumerate(self.models.items()):

            def init(model=model):
                return model.init(jax.random.key(0), self.batch, train=False)

            filled = model_zoo.filled(jax.eval_shape(init), seed)
            size = self.sizes.get(name, 1.0)
            statistics = filled.get("batch_stats", {})  # a variance is not negative
            found[name] = {
                "params": jax.tree.map(lambda x, size=size: size * x, filled["params"]),
                "batch_stats": jax.tree.map(lambda x: 0.5 + jnp.abs(x), statistics),
            }
        return found

    @functools.cached_property
    def _all(self):
        def run(variables, batch):
            found = {}
            for name, model in self.models.items():
                state = variables[name]

                def loss(params, model=model, state=state):
                    given = {**state, "params": params}
                    return self.task.loss(model, given, batch, rngs={}, train=False)[0]

                value, gradients = jax.value_and_grad(loss)(state["params"])
                chosen = self.task.predict(model, state, batch, None)
                found[name] = (value, gradients, chosen.probabilities, chosen.attention)
            return found

        return compiled(run)

    def __call__(self, **changes):
        """By model: (loss, gradients, probabilities, attention)."""
        return jax.device_get(self._all(self.variables, {**self.batch, **changes}))


class Fused(Answerers):
    """Tiny models with every fusion of `fusion_study`, over the places of cached features."""

    image_shape, places = (4, 5), 4
    sizes = {"film": 0.4}  # it is wide, and sure of one answer otherwise, whatever it is given
    without_a_map = {"concat", "sum", "product", "gated", "mlb", "mutan", "mcb", "mfb"}

    @functools.cached_property
    def models(self):
        data = Part(classes=ANSWERS, tokenizer=Part(vocab_size=12))
        given = {
            "WIDTH": 16,
            "study": lambda data, encoder, fusion, pooling=last_pool: (fusion, pooling),
        }
        with mock.patch.multiple(fusion_study, **given):
            chosen = {name: run() for name, run in fusion_study.RUNS.items()}
        return {
            name: fusion_study._model(
                data, fusion, image_encoder=Precomputed(), pooling=pooling, width=16, hidden=16
            )
            for name, (fusion, pooling) in chosen.items()
            if fusion is not None
        }


def check_the_picture_matters(answerers):
    """Invariant 24: pictures of other rows change every loss, and black ones every answer."""
    here = answerers()
    swapped = answerers(image=answerers.batch["image"][[1, 2, 0]])
    black = answerers(image=np.zeros_like(answerers.batch["image"]))
    for name in here:
        assert abs(here[name][0] - swapped[name][0]) > 1e-3, name
        assert (_apart(here[name][2], black[name][2]) > 1e-3).all(), name


def check_the_question_matters(answerers):
    here, other = answerers(), answerers(text=TEXT[[1, 2, 0]])
    for name in here:
        assert (_apart(here[name][2], other[name][2]) > 1e-3).all(), name


def check_the_answers_do_not_depend_on_the_order_of_rows(answerers):
    """Invariant 25, and 20: pictures and questions keep together, and rows do not read each other."""
    order = [1, 0, 2]  # no rotation: that would not tell a picture of the row before
    here = answerers()
    moved = answerers(**{key: value[order] for key, value in answerers.batch.items()})
    for name in here:
        np.testing.assert_allclose(moved[name][2], here[name][2][order], atol=1e-5)
        if here[name][3] is not None:
            np.testing.assert_allclose(moved[name][3], here[name][3][order], rtol=1e-4, atol=1e-5)


def check_every_parameter_has_a_gradient(answerers):
    for name, (_, gradients, _, _) in answerers().items():
        for path, leaf in named_leaves(gradients).items():
            assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, (name, path)


def check_where_it_looked_is_a_map_of_the_places(answerers):
    here = answerers()
    for name, (_, _, _, looked) in here.items():
        if name in answerers.without_a_map:
            assert looked is None, name
            continue
        assert looked.shape[::2] == (3, answerers.places) and (looked >= 0).all(), name
        if name != "film":  # it shows how large the features are
            np.testing.assert_allclose(looked.sum(-1), 1.0, rtol=1e-5, err_msg=name)
    assert here["stacked_attention"][3].shape[1] == 2


ANSWER_CHECKS = (
    check_the_picture_matters,
    check_the_question_matters,
    check_the_answers_do_not_depend_on_the_order_of_rows,
    check_every_parameter_has_a_gradient,
    check_where_it_looked_is_a_map_of_the_places,
)
