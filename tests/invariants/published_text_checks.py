"""Published models that read or write text: that they compute what their own implementation computes, by steps too.

Operations are run one by one: what one bug compiled serves the next.
"""

import functools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tests.pretrained import published
from tests.pretrained.test_bert import old, rewritten
from vlm_jax.pretrained import weights
from vlm_jax.pretrained.places import Rows
from vlm_jax.tasks.generation import Generation
from vlm_jax.types import BOS, PAD

BOUND = 1e-4


class Folders:
    """Folders of the stored configurations, in a temporary one."""

    def __init__(self):
        self._kept = tempfile.TemporaryDirectory()
        self.root = Path(self._kept.name)
        for name in NAMES:
            published.write(self.root / name, published.Stored(name).config)
        masked = weights.open_folder(str(self.root / "bert_a"))
        rewritten(masked, self.root / "older", old)

    def load(self, name: str) -> weights.Published:
        return weights.load(str(self.root / name))


NAMES = (
    *("bert_a", "bert_b", "blip_a", "blip_qb", "git_a", "llama_a", "llama_b"),
    *("gpt2_a", "ved_a", "gemma_a", "gemma_2a", "gemma_3a", "t5_a"),
    *("llava_a", "paligemma_2a", "idefics3_a"),
)


@functools.cache
def folders() -> Folders:
    """Written once, by the project without a bug."""
    return Folders()


def one_by_one(check):
    @functools.wraps(check)
    def run(folders):
        with jax.disable_jit():
            check(folders)

    return run


def _rows(found: weights.Published, side: str) -> np.ndarray:
    """Our row of each of the file's tokens, in the table of that side."""
    tables = [place for place in found.family.places if isinstance(place, Rows)]
    table = next((place for place in tables if place.ours[0].startswith(side)), tables[0])
    return np.argsort(table.ids)


def _batch(found: weights.Published, arrays) -> dict:
    batch = {"image": jnp.array(arrays["image"])} if "image" in arrays else {}
    batch["target"] = jnp.array(_rows(found, "decoder")[arrays["tokens"].astype(int)])
    if "text" in arrays:
        batch["text"] = jnp.array(_rows(found, "text_encoder")[arrays["text"].astype(int)])
    return batch


def _parity(folders: Folders, name: str) -> None:
    arrays, found = published.Stored(name).arrays, folders.load(name)
    batch = _batch(found, arrays)
    logits = found.model.apply(found.variables, batch, train=False)
    logits = logits[..., _rows(found, "decoder")]
    real = np.asarray(arrays["tokens"] != PAD)[..., None]
    assert np.abs(np.where(real, logits, 0) - arrays["logits"] * real).max() < BOUND


# ---- the same numbers


@one_by_one
def check_bert_fills_gaps_as_the_reference_does(folders):
    _parity(folders, "bert_a")


@one_by_one
def check_bert_reads_as_the_reference_does(folders):
    arrays, found = published.Stored("bert_b").arrays, folders.load("bert_b")
    tokens = jnp.array(arrays["tokens"], jnp.int32)
    values = found.model.apply(found.variables, tokens, train=False).values
    assert np.abs(values - arrays["hidden_3"]).max() < BOUND


@one_by_one
def check_older_names_of_norms(folders):
    older, newer = folders.load("older").variables, folders.load("bert_a").variables
    jax.tree.map(np.testing.assert_array_equal, older, newer)


@one_by_one
def check_blip_s_captions_are_the_reference_s(folders):
    _parity(folders, "blip_a")


@one_by_one
def check_blip_s_answers_are_the_reference_s(folders):
    _parity(folders, "blip_qb")


@one_by_one
def check_git_is_the_reference_s(folders):
    _parity(folders, "git_a")


@one_by_one
def check_gpt_2_is_the_reference_s(folders):
    _parity(folders, "gpt2_a")


@one_by_one
def check_gpt_2_behind_a_vit_is_the_reference_s(folders):
    _parity(folders, "ved_a")


@one_by_one
def check_llama_is_the_reference_s(folders):
    _parity(folders, "llama_a")


@one_by_one
def check_llama_3_is_the_reference_s(folders):
    _parity(folders, "llama_b")


@one_by_one
def check_gemma_is_the_reference_s(folders):
    _parity(folders, "gemma_a")


@one_by_one
def check_gemma_2_is_the_reference_s(folders):
    _parity(folders, "gemma_2a")


@one_by_one
def check_gemma_3_is_the_reference_s(folders):
    _parity(folders, "gemma_3a")


@one_by_one
def check_t5_is_the_reference_s(folders):
    _parity(folders, "t5_a")


@one_by_one
def check_llava_is_the_reference_s(folders):
    _parity(folders, "llava_a")


@one_by_one
def check_paligemma_is_the_reference_s(folders):
    _parity(folders, "paligemma_2a")


@one_by_one
def check_idefics_is_the_reference_s(folders):
    _parity(folders, "idefics3_a")


# ---- what holds of all of them


@one_by_one
def check_the_first_word_after_bos_is_the_reference_s(folders):
    arrays, found = published.Stored("blip_qb").arrays, folders.load("blip_qb")
    batch, apply = _batch(found, arrays), found.model.apply
    memory = apply(found.variables, batch, train=False, method="encode")
    cache = apply(found.variables, memory, 2, 1, method="initial_cache")
    first, _ = apply(found.variables, jnp.full(2, BOS), cache, memory, method="step")
    first = jnp.argmax(first[:, _rows(found, "decoder")], axis=-1)
    np.testing.assert_array_equal(first, arrays["captions"][:, 0])


def _steps(folders: Folders, name: str) -> None:
    arrays, found = published.Stored(name).arrays, folders.load(name)
    batch = _batch(found, arrays)
    # Padding before, between and after the words, as a prompt and what follows it have.
    tokens = batch["target"][:, :4].at[0, 0].set(PAD).at[1, 2].set(PAD)
    whole = found.model.apply(found.variables, {**batch, "target": tokens}, train=False)
    memory = found.model.apply(found.variables, batch, train=False, method="encode")
    cache = found.model.apply(found.variables, memory, 2, 4, method="initial_cache")

    def read(tokens, cache):
        return found.model.apply(found.variables, tokens, cache, memory, method="extend")

    first, cache = read(tokens[:, :2], cache)
    last, _ = read(tokens[:, 2:], cache)
    parts, real = jnp.concatenate([first, last], axis=1), tokens != PAD
    np.testing.assert_allclose(parts[real], whole[real], atol=BOUND)


@one_by_one
def check_steps_behind_a_picture_equal_the_whole(folders):
    _steps(folders, "git_a")


@one_by_one
def check_steps_about_a_question_equal_the_whole(folders):
    _steps(folders, "blip_qb")


@one_by_one
def check_padding_before_a_question_is_padding_behind_it(folders):
    arrays, found = published.Stored("blip_qb").arrays, folders.load("blip_qb")
    batch = _batch(found, arrays)
    left = jnp.stack([jnp.roll(row, (row == PAD).sum()) for row in batch["text"]])
    right = found.model.apply(found.variables, batch, train=False)
    moved = found.model.apply(found.variables, {**batch, "text": left}, train=False)
    np.testing.assert_allclose(moved, right, atol=BOUND)


@one_by_one
def check_the_loss_of_git_is_that_of_each_word_given_those_before(folders):
    arrays, found = published.Stored("git_a").arrays, folders.load("git_a")
    batch = {**_batch(found, arrays), "valid": jnp.ones(2, bool)}
    task = Generation(tokenizer=None, decoding=None)
    loss, _ = task.loss(found.model, found.variables, batch, rngs={}, train=False)
    labels = arrays["tokens"].astype(int)[:, 1:, None]
    log_probs = np.asarray(jax.nn.log_softmax(arrays["logits"][:, :-1]))
    chosen = np.take_along_axis(log_probs, labels, axis=-1)
    np.testing.assert_allclose(loss, -chosen.mean(), rtol=1e-4)


CHECKS = tuple(value for name, value in list(globals().items()) if name.startswith("check_"))
# Those that read with BERT, and the others.
OURS = ("bert", "older", "blip", "git", "bos", "picture", "question")
READERS = tuple(check for check in CHECKS if any(word in check.__name__ for word in OURS))
WRITERS = tuple(check for check in CHECKS if check not in READERS)
