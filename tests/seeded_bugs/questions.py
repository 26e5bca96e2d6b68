"""Questions about pictures: from the file to the score, and models that answer."""

import dataclasses

import jax.numpy as jnp

from tests.invariants import question_checks
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.data import questions, text_transforms
from vlm_jax.data.datasets import daquar
from vlm_jax.metrics import by_kind, majority, vqa_accuracy, wups
from vlm_jax.models import classifier
from vlm_jax.tasks import classification, vqa
from vlm_jax.text import answers, normalize
from vlm_jax.text.wordnet import WordNet

EACH = (questions.EachQuestion, "__getitem__")
SCORE = (classification.Classification, "score")


@bug("the answer is leaked into the question", "questions", EACH)
def _(real):
    def item(self, index):
        example = real(self, index)
        return {**example, "question": f"{example['question']} {example['answer']}"}

    return item


@bug("the question is about another picture", "questions", EACH)
def _(real):
    def item(self, index):
        other = real(self, (index + 1) % len(self))
        return {**real(self, index), "image": other["image"]}

    return item


@bug("the answer is that to the question before", "questions", (questions, "_of_question"))
def _(real):
    def of_question(texts, place, count):
        before = real(texts, (place - 1) % count, count)
        return {**real(texts, place, count), "answer": before["answer"]}

    return of_question


@bug("the id is the picture's", "questions", (questions, "_question_ids"))
def _(real):
    return lambda example, count: [int(example["id"]) for _ in range(count)]


@bug("the label is off by one", "questions", (text_transforms.Label, "__call__"))
def _(real):
    def label(self, example, rng=None):
        found = real(self, example, rng)
        return {**found, "label": (found["label"] + 1) % len(self.classes)}

    return label


@bug("an answer outside the list is the last one", "questions", (text_transforms.Label, "__call__"))
def _(real):
    def label(self, example, rng=None):
        found = real(self, example, rng)
        return {**found, "label": found["label"] % len(self.classes)}

    return label


@bug("what cannot be answered is trained on", "questions", (questions.Answered, "_kept"))
def _(real):
    return property(lambda self: jnp.arange(len(self.source)))


@bug("the list is in the order of the file", "questions", (answers, "_names"))
def _(real):
    def names(given):
        texts = [each.get(given.texts, ()) for each in given.corpus.references.values()]
        found = list(dict.fromkeys(answer for answers in texts for answer in answers))
        return (*found, *("",) * (given.size - len(found)))[: given.size]

    return names


@bug("DAQUAR's questions name their picture", "questions", (daquar, "without_image"))
def _(real):
    return lambda question: question.removesuffix(" ?")


@bug("an answer outside the list counts as right", "answers", SCORE)
def _(real):
    def score(self, predictions, batch, references):
        probabilities = predictions.probabilities.argmax(-1)
        label = jnp.where(batch["label"] < 0, probabilities, batch["label"])
        gold = {
            id: {**texts, "answer": (self.classes[int(label[row])],)}
            for row, (id, texts) in enumerate(references.items())
        }
        return real(self, predictions, {**batch, "label": label}, gold)

    return score


@bug("an answer outside the list is not counted", "answers", SCORE)
def _(real):
    def score(self, predictions, batch, references):
        return real(self, predictions, {**batch, "valid": batch["label"] >= 0}, references)

    return score


@bug("all types are one", "answers", (by_kind.ByKind, "stats"))
def _(real):
    return lambda self, prediction, references, kind: real(self, prediction, references, "what")


@bug("the majority is that of all questions", "answers", (majority, "_majority"))
def _(real):
    return lambda metric: dict.fromkeys(("existence", "count", "what"), "2")


@bug("answers are normalised twice", "answers", (vqa_accuracy, "vqa_answer"))
def _(real):
    return lambda answer: real(real(answer))


@bug("references are normalised where all agree", "answers", (vqa_accuracy.VqaAccuracy, "stats"))
def _(real):
    return lambda self, prediction, references: real(
        self, normalize.vqa_answer(prediction), [normalize.vqa_answer(a) for a in references]
    )


@bug("no one is left out", "answers", (vqa_accuracy.VqaAccuracy, "stats"))
def _(real):
    def stats(self, prediction, references):
        found = real(self, prediction, references)
        whole = real(self, prediction, [*references, "⟨nobody⟩"])
        return dataclasses.replace(found, right=max(found.right, min(whole.right * 11 / 10, 1)))

    return stats


@bug("four must agree", "answers", (vqa_accuracy, "_share"))
def _(real):
    return lambda others: real(others) * vqa_accuracy.Fraction(3, 4)


@bug("WUPS counts what is below the threshold whole", "wups", (wups, "DOWNWEIGHT"))
def _(real):
    return 1.0


@bug("WUPS at its threshold is below it", "wups", (wups, "_similarity"))
def _(real):
    def similarity(one, other, threshold, folder):
        return real(one, other, threshold + 1e-9 if threshold else 0.0, folder)

    similarity.cache_clear = real.cache_clear
    return similarity


@bug("WUPS looks from the answer only", "wups", (wups, "_score"))
def _(real):
    def scored(given, truth, threshold, folder):
        if not given:
            return 0.0
        product = 1.0
        for a in given:
            product *= max(wups._similarity(a, b, threshold, folder) for b in truth)
        return product

    scored.cache_clear = real.cache_clear
    return scored


@bug("the root of WordNet has depth 0", "wups", (WordNet, "_find_depths"))
def _(real):
    def depths(self, meaning):
        short, long = real(self, meaning)
        return short, long - 1

    return depths


@bug("an instance is of nothing", "wups", (WordNet, "_find_distances"))
def _(real):
    def distances(self, meaning):
        if self._synsets[meaning].word == "fido":
            return {meaning: 0}
        return real(self, meaning)

    return distances


@bug("the picture is not looked at", "answerers", (classifier.Classifier, "encode"))
def _(real):
    def encode(self, batch, *, train):
        return real(self, {**batch, "image": jnp.zeros_like(batch["image"])}, train=train)

    return encode


@bug("the picture is that of the row before", "answerers", (classifier.Classifier, "encode"))
def _(real):
    def encode(self, batch, *, train):
        return real(self, {**batch, "image": jnp.roll(batch["image"], 1, axis=0)}, train=train)

    return encode


@bug("the question is not looked at", "answerers", (classifier.Classifier, "encode"))
def _(real):
    def encode(self, batch, *, train):
        return real(self, {**batch, "text": jnp.ones_like(batch["text"])}, train=train)

    return encode


@bug("where it looked is that of the row before", "answerers", (vqa, "_attention"))
def _(real):
    def attention(*sown):
        found = real(*sown)
        return None if found is None else jnp.roll(found * jnp.arange(1, 4)[:, None, None], 1, 0)

    return attention


@bug("where it looked is at the words", "answerers", (vqa, "_attention"))
def _(real):
    return lambda *sown: jnp.ones((3, 1, 7))


ROOMS = {
    "questions": Room(question_checks.DATA_CHECKS),
    "answers": Room((*question_checks.VQA_CHECKS, *question_checks.SCORE_CHECKS)),
    "wups": Room(question_checks.WUPS_CHECKS),
    "answerers": Room(question_checks.ANSWER_CHECKS, question_checks.Answerers),
}
