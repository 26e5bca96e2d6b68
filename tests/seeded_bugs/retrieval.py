"""Retrieval: two towers, their losses, recall."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.invariants import retrieval_checks
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.layers import pooling
from vlm_jax.metrics import retrieval
from vlm_jax.metrics.clip_score import ClipScore
from vlm_jax.metrics.retrieval import Retrieval
from vlm_jax.models import two_tower
from vlm_jax.tasks import contrastive
from vlm_jax.tasks.zero_shot import ZeroShot

SCORES = (contrastive, "scores_of")
RANKS = (retrieval, "ranks_of")
SCALE = (two_tower, "at_most")
RESULT = (Retrieval, "result")


@bug("the negatives are those of one device", "retrieval", (contrastive, "_is_mapped"))
def _(real):
    return lambda: False


@bug("no gradient flows back through the gather", "retrieval", (contrastive, "everywhere"))
def _(real):
    def everywhere(rows):
        return jax.tree.map(jax.lax.stop_gradient, real(rows)) if contrastive._is_mapped() else rows

    return everywhere


@bug("every device takes its pairs for the first of the batch", "retrieval", SCORES)
def _(real):
    def scores_of(found, batch):
        scores = real(found, batch)
        first = jnp.eye(*scores.own.shape, dtype=bool)
        return scores._replace(own=first, kept=scores.kept | first)

    return scores_of


@bug("the right text is that of the next pair", "retrieval", SCORES)
def _(real):
    def scores_of(found, batch):
        scores = real(found, batch)
        following = jnp.roll(scores.own, 1, axis=1)
        return scores._replace(own=following, kept=scores.kept | following)

    return scores_of


@bug("the other captions of a picture are wrong", "retrieval", SCORES)
def _(real):
    return lambda found, batch: real(found, {**batch, "id": jnp.arange(len(batch["id"]))})


@bug("rows that are not valid are wrong answers", "retrieval", SCORES)
def _(real):
    def scores_of(found, batch):
        return real(found, {**batch, "valid": jnp.ones_like(batch["valid"])})

    return scores_of


@bug("only pictures look for texts", "retrieval", SCORES)
def _(real):
    def scores_of(found, batch):
        scores = real(found, batch)
        return scores._replace(text_to_image=scores.image_to_text)

    return scores_of


@bug("cosines are divided by the scale", "retrieval", SCORES)
def _(real):
    return lambda found, batch: real(found.replace(scale=1 / found.scale), batch)


@bug("the bias is left out", "retrieval", SCORES)
def _(real):
    return lambda found, batch: real(found.replace(bias=None), batch)


@bug("the sigmoid loss is a mean over all questions", "retrieval", (contrastive, "sigmoid_pairs"))
def _(real):
    return lambda scores: real(scores) / scores.own.shape[1]


@bug("the temperature has no gradient", "retrieval", SCALE)
def _(real):
    return lambda x, limit: jax.lax.stop_gradient(real(x, limit))


@bug("a temperature at its limit stays there", "retrieval", SCALE)
def _(real):
    return jnp.minimum


@bug("the temperature has no limit", "retrieval", SCALE)
def _(real):
    return lambda x, limit: x


@bug("vectors keep their length", "retrieval", (two_tower, "unit"))
def _(real):
    return lambda x: x


@bug("vectors of nothing are nan", "retrieval", (two_tower, "unit"))
def _(real):
    return lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)


@bug("the text is pooled over its padding", "retrieval", (pooling, "pool"))
def _(real):
    return lambda features: features.values.mean(1)


@bug("ties are counted in the model's favour", "retrieval", (retrieval, "_ranks"))
def _(real):
    def ranks(queries, candidates, query_ids, candidate_ids):
        scores = queries @ candidates.T
        right = query_ids[:, None] == candidate_ids
        best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
        yield 1 + (~right & (scores > best)).sum(axis=1)

    return ranks


@bug("what is rounded apart is no tie", "retrieval", (retrieval, "_ranks"))
def _(real):
    def ranks(queries, candidates, query_ids, candidate_ids):
        scores = queries @ candidates.T
        right = query_ids[:, None] == candidate_ids
        best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
        yield 1 + (~right & ~(scores < best)).sum(axis=1)

    return ranks


@bug("ties go to the first, and the right one stands on the diagonal", "retrieval", (retrieval, "_ranks"))  # fmt: skip
def _(real):
    def ranks(queries, candidates, query_ids, candidate_ids):
        order = np.argsort(-(queries @ candidates.T), axis=1, kind="stable")
        right = query_ids[:, None] == candidate_ids[order]
        yield 1 + right.argmax(1)

    return ranks


@bug("nan comes last", "retrieval", (retrieval, "_ranks"))
def _(real):
    def ranks(queries, candidates, query_ids, candidate_ids):
        scores = queries @ candidates.T
        right = query_ids[:, None] == candidate_ids
        best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
        yield 1 + (~right & (scores >= best)).sum(axis=1)

    return ranks


@bug("only the first caption of a picture counts", "retrieval", RESULT)
def _(real):
    def result(self, stats):
        first = {record[0]: record for record in reversed(stats.records)}
        return real(self, retrieval.Pairs(records=tuple(first.values())))

    return result


@bug("the other captions of a picture stand in the way", "retrieval", RANKS)
def _(real):
    def ranks_of(queries, candidates, query_ids, candidate_ids):
        found = []
        for query, id in zip(queries, query_ids):
            scores = candidates @ query
            own = np.flatnonzero(candidate_ids == id)[0]
            found.append((scores >= scores[own]).sum())
        return np.array(found)

    return ranks_of


@bug("the two directions have each other's names", "retrieval", RESULT)
def _(real):
    swap = {"image_to_text": "text_to_image", "text_to_image": "image_to_text"}

    def result(self, stats):
        found = real(self, stats)
        return {swap.get(name[:13], name[:13]) + name[13:]: value for name, value in found.items()}

    return result


@bug("ranks begin at zero", "retrieval", RANKS)
def _(real):
    return lambda *arguments: real(*arguments) - 1


@bug("the prompts of the classes are mixed up", "retrieval", (ZeroShot, "prompts"))
def _(real):
    def prompts(self):
        given = real(self)
        shape = (len(self.classes), len(self.templates), -1)
        return given.reshape(shape).swapaxes(0, 1).reshape(given.shape)

    return prompts


@bug("captions that do not fit count below nothing", "retrieval", (ClipScore, "scores"))
def _(real):
    return lambda self, stats: [250 * cosine for cosine, _ in stats.records]


ROOMS = {
    "retrieval": Room(retrieval_checks.CHECKS, forget=retrieval_checks.forget),
}
