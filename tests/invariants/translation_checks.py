"""What must hold of translation: of its batches, of what is read and what is written, of its score, of averages.

DATA_CHECKS take nothing. READER_CHECKS take the `Subject` of a model that reads a text.
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tests.invariants import model_checks
from tests.invariants.subject import B
from vlm_jax.data import buckets
from vlm_jax.data import pipeline as data_pipeline
from vlm_jax.data.buckets import Buckets
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import Rows
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.metrics.base import total
from vlm_jax.metrics.sacrebleu import SacreBleu
from vlm_jax.text.tokenizers import BpeTokenizer
from vlm_jax.train import checkpoints
from vlm_jax.train.state import State
from vlm_jax.types import EOS, PAD

SIZE = 29
# Source and target differ in length, each the longer one now and then, and in their letters.
PAIRS = tuple(("ab" * (1 + 5 * i % 11), "xyz" * (1 + 3 * i % 7)) for i in range(SIZE))
SOURCE = Rows(names=("en", "de"), rows=PAIRS)
LETTERS = BpeTokenizer(corpus=SOURCE, vocab_size=260, texts=("en", "de"))
MAX_LENGTH = 24


def pipeline() -> Pipeline:
    transforms = tuple(
        Tokenize(tokenizer=LETTERS, max_length=MAX_LENGTH, key=key, output=output)
        for key, output in (("en", "text"), ("de", "target"))
    )
    return Pipeline(
        source=SOURCE,
        transforms=transforms,
        batch_size=2,
        train=True,
        buckets=Buckets(
            lengths=(8, 16, MAX_LENGTH), measure=transforms, keys=("text", "target"), tokens=64
        ),
    )


def epochs(count, **options) -> list[list[dict]]:
    made = pipeline()
    batches = made.batches(**options)
    return [[next(batches)[1] for _ in range(made.num_batches)] for _ in range(count)]


def ids(batches) -> list[int]:
    return np.concatenate([batch["id"][batch["valid"]] for batch in batches]).tolist()


def check_an_epoch_of_token_batches_has_every_example_once():
    """C2b.35, 36: in an order of its own."""
    orders = [ids(batches) for batches in epochs(3)]
    for order in orders:
        assert sorted(order) == list(range(SIZE)), order
    assert orders[0] != orders[1] != orders[2]


def check_token_batches_have_few_shapes_and_no_more_tokens_than_said():
    shapes = {batch[key].shape for b in epochs(3) for batch in b for key in ("text", "target")}
    assert shapes <= {(8, 8), (4, 16), (2, 24)}, shapes


def check_hosts_share_a_token_batch():
    whole = [batch for epoch in epochs(2) for batch in epoch]
    hosts = [[b for e in epochs(2, shard=(i, 2)) for b in e] for i in range(2)]
    for batch, *parts in zip(whole, *hosts, strict=True):
        for key in batch:
            np.testing.assert_array_equal(np.concatenate([p[key] for p in parts]), batch[key])


def check_every_text_is_read_and_written_whole_and_in_its_place():
    """C2b.44 in small: the source is the source, the target the target, neither of them cut."""
    for batch in epochs(1)[0]:
        for row in np.flatnonzero(batch["valid"]):
            source, target = PAIRS[batch["id"][row]]
            for key, text in (("text", source), ("target", target)):
                tokens = batch[key][row]
                assert LETTERS.decode(tokens) == text, (key, text)
                assert (tokens == EOS).sum() == 1, (key, text)


def check_bleu_is_of_the_corpus():
    """C2b.40: as sacreBLEU says of all sentences at once, whatever the batches."""
    from sacrebleu import corpus_bleu

    hypotheses = ["ein Mann fährt Rad .", "der Hund", "zwei Kinder spielen im Park ."]
    references = ["ein Mann fährt Fahrrad .", "der Hund läuft .", "Kinder spielen im Park ."]
    expected = corpus_bleu(hypotheses, [references]).score
    metric = SacreBleu(reference="de")
    stats = [metric.stats(h, [r]) for h, r in zip(hypotheses, references)]
    for parts in ([total(stats)], [total(stats[:1]), total(stats[1:])], stats[::-1]):
        np.testing.assert_allclose(metric.result(total(parts))["bleu"], expected, rtol=1e-9)
    other = metric.result(
        total([metric.stats(h.upper(), [r]) for h, r in zip(hypotheses, references)])
    )
    assert other["bleu"] < expected, "the case does not count"


def check_an_average_is_the_mean_of_the_parameters():
    """Of all chosen checkpoints, of parameters only, in any order, in float32."""
    values = {10: 1.0, 20: 3.0, 30: 6.5}

    def state(step):
        params = {"kernel": jnp.full((2, 3), values[step]), "bias": jnp.array([step / 7])}
        return State(
            step=jnp.int32(step),
            params=params,
            collections={},
            opt_state={"mu": jax.tree.map(lambda leaf: leaf - 100, params)},
            ema=None,
            skipped=jnp.int32(0),
        )

    with tempfile.TemporaryDirectory() as folder:
        with checkpoints.Checkpoints(Path(folder)) as files:
            for step in values:
                files.save(step, state(step), step)
        for chosen in ([20, 30], [30, 20], [10, 20, 30]):
            found = checkpoints.average_variables(Path(folder), chosen)
            assert set(found) == {"params"} and set(found["params"]) == {"kernel", "bias"}
            mean = np.float32(np.mean([values[step] for step in chosen]))
            np.testing.assert_array_equal(found["params"]["kernel"], np.full((2, 3), mean))
            exact = np.mean([np.float64(np.float32(step / 7)) for step in chosen])
            np.testing.assert_array_equal(found["params"]["bias"], [np.float32(exact)])


_CACHES = (buckets.measured, data_pipeline._packed)


def forget():
    """Lets lengths and batches be found anew."""
    for cache in _CACHES:
        cache.cache_clear()


DATA_CHECKS = (
    check_an_epoch_of_token_batches_has_every_example_once,
    check_token_batches_have_few_shapes_and_no_more_tokens_than_said,
    check_hosts_share_a_token_batch,
    check_every_text_is_read_and_written_whole_and_in_its_place,
    check_bleu_is_of_the_corpus,
    check_an_average_is_the_mean_of_the_parameters,
)


def check_padding_of_the_source_is_not_read(s):
    """C1.8, 9: more of it, after the text, changes no logits and no greedy translation."""
    text = s.batch["text"]
    wider = np.concatenate([text, np.full((B, 3), PAD, text.dtype)], axis=1)
    np.testing.assert_allclose(s.forward(text=wider), s.forward(), rtol=1e-4, atol=1e-5)


def check_every_word_of_the_source_is_read(s):
    """Another word at any one place, other logits in that row and in no other."""
    text, before = s.batch["text"], s.forward()
    for place in range(text.shape[1]):
        changed = text.copy()
        changed[:, place] = np.where(text[:, place] == PAD, PAD, 4 + (text[:, place] + 1) % 5)
        moved = np.abs(s.forward(text=changed) - before).max((1, 2))
        assert (moved[changed[:, place] != text[:, place]] > 1e-5).all(), f"place {place}"
        assert (moved[changed[:, place] == text[:, place]] == 0).all(), f"place {place}"


READER_CHECKS = (
    check_padding_of_the_source_is_not_read,
    check_every_word_of_the_source_is_read,
    model_checks.check_the_image_matters,
    model_checks.check_rows_do_not_mix,
    model_checks.check_padding_in_the_memory_is_not_seen,
    model_checks.check_steps_equal_the_full_forward,
)
