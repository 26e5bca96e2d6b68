"""Translation: batches by tokens, what is read, BLEU, averages."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from tests import model_zoo
from tests.invariants import (
    translation_checks,
)
from tests.invariants.subject import Subject
from tests.seeded_bugs.harness import Room, bug
from tests.seeded_bugs.recurrent_captioner import ENCODE, of_memory
from vlm_jax.data import (
    buckets,
    pipeline,
    text_transforms,
)
from vlm_jax.language import transformer
from vlm_jax.metrics import base as metrics
from vlm_jax.metrics import sacrebleu
from vlm_jax.train import checkpoints

PACK = (buckets.Buckets, "pack")
MEASURE = (buckets, "_lengths")
BLEU = (sacrebleu.SacreBleu, "stats")


@bug("token batches drop the remainder", "translation data", PACK)
def _(real):
    def pack(self, order, buckets, multiple, random):
        batches = real(self, order, buckets, multiple, random)
        return [(b, rows) for b, rows in batches if len(rows) == self.rows(b, multiple)]

    return pack


@bug("copies in the last token batch count", "translation data", (pipeline._MakeBatch, "_train"))
def _(real):
    return lambda self, picks, *fits: real(self, [p._replace(counts=True) for p in picks], *fits)


@bug("every epoch has the same token batches", "translation data", (pipeline, "_packed"))
def _(real):
    return lambda seed, epoch, *others: real(seed, 0, *others)


@bug("hosts pack batches of their own", "translation data", (pipeline.Pipeline, "batches"))
def _(real):
    return lambda self, position=0, shard=(0, 1): real(
        dataclasses.replace(self, seed=self.seed + shard[0]), position, shard
    )


@bug("as many rows whatever the length", "translation data", (buckets.Buckets, "rows"))
def _(real):
    return lambda self, bucket, multiple: real(self, 0, multiple)


@bug("a long source is cut silently", "translation data", MEASURE)
def _(real):
    return lambda example, buckets: [0, real(example, buckets)[1]]


@bug("a long target is cut silently", "translation data", MEASURE)
def _(real):
    return lambda example, buckets: [real(example, buckets)[0], 0]


@bug("the length leaves EOS out", "translation data", MEASURE)
def _(real):
    return lambda example, buckets: [length - 1 for length in real(example, buckets)]


@bug(
    "the target's language is read as the source",
    "translation data",
    (text_transforms.Tokenize, "__call__"),
)
def _(real):
    return lambda self, example, rng=None: real(dataclasses.replace(self, key="de"), example, rng)


@dataclasses.dataclass(frozen=True)
class _Scores(metrics.Stats):
    scores: tuple


@bug(
    "BLEU is the mean over the sentences",
    "translation data",
    BLEU,
    (sacrebleu.SacreBleu, "result"),
)
def _(stats, result):
    return (
        lambda self, text, gold: _Scores((result(self, stats(self, text, gold))["bleu"],)),
        lambda self, found: {"bleu": float(np.mean(found.scores))},
    )


@bug("BLEU without the case", "translation data", BLEU)
def _(real):
    return lambda self, text, gold: real(self, text.lower(), [g.lower() for g in gold])


@bug("BLEU of the reference by the prediction", "translation data", BLEU)
def _(real):
    return lambda self, text, gold: real(self, gold[0], [text])


AVERAGE = (checkpoints, "average_variables")
LOAD = (checkpoints, "load_variables")


@bug("the average forgets one checkpoint", "translation data", AVERAGE)
def _(real):
    return lambda workdir, chosen: real(workdir, sorted(chosen)[1:])


@bug("the newest checkpoint is called the average", "translation data", AVERAGE)
def _(real):
    return lambda workdir, chosen: real(workdir, [max(chosen)])


@bug("the average is that of the optimizer's moments", "translation data", LOAD)
def _(real):
    def load(workdir, step=None):
        leaves = checkpoints._read(workdir / "checkpoints" / str(step), None)[0]
        return {"params": checkpoints._nested(leaves)["opt_state"]["mu"]}

    return load


def _of_mask(change):
    """An encoder whose memory has the mask `change(mask)`."""

    def make(real):
        def encode(self, batch, *, train):
            memory = real(self, batch, train=train)
            return memory.replace(mask=change(memory.mask))

        return encode

    return make


bug("padding of the source is looked at", "translation", ENCODE)(_of_mask(jnp.ones_like))
bug("only the first half of the source is looked at", "translation", ENCODE)(
    _of_mask(lambda mask: mask & (jnp.arange(mask.shape[1]) < mask.shape[1] // 2)[None])
)
bug("the source of another row", "translation", ENCODE)(
    of_memory(lambda values: jnp.roll(values, 1, axis=0))
)
bug("the source is ignored", "translation", ENCODE)(of_memory(lambda values: 0 * values))


@bug("padding is a word of the source", "translation", (transformer, "PAD"))
def _(real):
    return -1


def _subject() -> Subject:
    model = model_zoo.text_generators()["translation_transformer"]
    return Subject(model, {"text": model_zoo.text_of(model)})


ROOMS = {
    "translation data": Room(translation_checks.DATA_CHECKS, forget=translation_checks.forget),
    "translation": Room(translation_checks.READER_CHECKS, _subject),
}
