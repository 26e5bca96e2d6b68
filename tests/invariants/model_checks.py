"""What must hold of every model that writes tokens. Each check takes a `Subject`.

Numbers in the docstrings are those of the list of invariants that the project keeps: C1 loss and masks, C2 state
and mode, C2c generation.
"""

import jax
import numpy as np

from tests.invariants.subject import BEAM, LENGTHS, MAX_LENGTH, B, L, key, log_softmax
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.train.state import named_leaves
from vlm_jax.types import BOS, EOS, NUM_SPECIAL, PAD

GREEDY = Greedy(max_length=MAX_LENGTH)


def check_chain_rule(s):
    """C1.1: the loss is the mean of -log p(token t | a forward that was given t tokens)."""
    terms = []
    for t in range(1, L):
        prefix = np.where(np.arange(L - 1) < t, s.inputs, PAD)
        log_p = log_softmax(s.forward(target=prefix)[:, t - 1])
        terms += [-log_p[row, s.labels[row, t - 1]] for row in range(B) if t < LENGTHS[row]]
    _, mean, _ = s.loss()
    np.testing.assert_allclose(float(mean.total / mean.count), np.mean(terms), rtol=1e-4)


def check_causality_by_change(s):
    """C1.5, and C1.8 for what stands under padding: a token moves no logits before it, and some after."""
    before = s.forward()
    for t in range(1, L - 1):
        changed = s.inputs.copy()
        changed[:, t] = np.where(changed[:, t] == NUM_SPECIAL, NUM_SPECIAL + 1, NUM_SPECIAL)
        after = s.forward(target=changed)
        np.testing.assert_array_equal(after[:, :t], before[:, :t], err_msg=f"token {t} leaks back")
        for row in range(B):
            assert (after[row, t:] != before[row, t:]).any(), f"nothing reads token {t}"


def check_causality_by_gradient(s):
    """C1.6: d logits[i] / d embedding[j] is 0 exactly for j > i, and not for j = i."""
    derivatives = np.abs(s.embedding_derivatives(s.variables, s._read()))  # [i b j]
    for i in range(L - 1):
        assert (derivatives[i, :, i + 1 :] == 0).all(), f"logits {i} depend on later words"
        real = np.array(LENGTHS) - 1 > i
        assert (derivatives[i, real, i] > 0).all(), f"logits {i} do not depend on word {i}"


def check_rows_that_are_not_valid(s):
    """C1.8: whatever stands in a row that is not valid, loss and all gradients stay the same bits."""
    valid = np.arange(B) != 1
    before, after = s.loss(valid=valid), s.loss(valid=valid, **s.with_others_beside(valid))
    assert before[0] == after[0]
    jax.tree.map(np.testing.assert_array_equal, before[2], after[2])


def check_rows_add_by_their_tokens(s):
    """C1.11, 12: loss and gradients of the batch are the token-weighted means of those of its rows."""
    whole, mean, gradients = s.loss()
    parts = [s.loss(valid=np.arange(B) == row) for row in range(B)]
    counts = [float(part[1].count) for part in parts]
    assert sum(counts) == float(mean.count) == sum(LENGTHS) - B
    weights = [count / sum(counts) for count in counts]
    np.testing.assert_allclose(
        whole, sum(w * part[0] for w, part in zip(weights, parts)), rtol=1e-5
    )
    summed = jax.tree.map(
        lambda *leaves: sum(w * leaf for w, leaf in zip(weights, leaves)), *[p[2] for p in parts]
    )
    for (name, a), b in zip(named_leaves(gradients).items(), jax.tree.leaves(summed)):
        np.testing.assert_allclose(
            a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max() + 1e-7, err_msg=name
        )


def check_uniform_logits_cost_ln_v(s):
    """C1.14: with all parameters 0 the loss is ln V; a decoder that copies does so half of the time, from any place."""
    zeros = jax.tree.map(np.zeros_like, s.variables["params"])
    _, mean, _ = s.loss({**s.variables, "params": zeros})
    p = np.full(s.labels.shape, 1 / s.vocab_size)
    if hasattr(s.model.decoder, "num_slots"):
        text = s.batch["text"]
        shares = (s.labels[:, :, None] == text[:, None]).sum(-1) / (text != PAD).sum(1)[:, None]
        p = 0.5 * np.where(s.labels < s.vocab_size, p, 0) + 0.5 * shares
    expected = -np.log(p[s.mask]).mean()
    np.testing.assert_allclose(float(mean.total / mean.count), expected, rtol=1e-5)


def check_evaluation_is_deterministic(s):
    """C2.18: another key changes nothing in evaluation."""
    one, other = s.loss(seed=0), s.loss(seed=1)
    assert one[0] == other[0]
    jax.tree.map(np.testing.assert_array_equal, one[2], other[2])


def check_training_is_noisy(s):
    """C2.18, 31: in training the same key gives the same logits, another key others, and rows differ."""
    same_rows = {key: np.repeat(value[:1], B, axis=0) for key, value in s._read().items()}
    one, two = key(0), key(1)
    logits, dropped = jax.device_get(s.noisy(s.variables, same_rows, one))
    again, _ = jax.device_get(s.noisy(s.variables, same_rows, one))
    other, _ = jax.device_get(s.noisy(s.variables, same_rows, two))
    np.testing.assert_array_equal(logits, again)
    assert not np.array_equal(logits, other), "the key has no effect: no dropout in training"
    assert not np.array_equal(logits[0], logits[1]), "rows share their noise"
    masks = {}
    for before, after in dropped:
        assert np.isfinite(after).all()
        mask = (after == 0) | (before == 0)
        for other_mask in masks.get(mask.shape, []):
            assert not np.array_equal(mask, other_mask), "two layers drop the same"
        masks.setdefault(mask.shape, []).append(mask)


def check_rows_do_not_mix(s):
    """C2.20: in evaluation a row depends neither on the others nor on their order."""
    before = s.forward()
    order = np.array([2, 0, 3, 1])
    moved = s.forward(**{key: value[order] for key, value in s._read().items()})
    np.testing.assert_allclose(moved, before[order], rtol=1e-5, atol=1e-5)
    changes = s.with_others_beside(np.arange(B) == 0)
    after = s.forward(**{**changes, "target": changes["target"][:, :-1]})
    np.testing.assert_allclose(after[0], before[0], rtol=1e-5, atol=1e-5)


def check_gradients_reach_every_parameter(s):
    """C2.23: every leaf has a finite gradient that is somewhere not 0; in training, over two keys, where
    the model draws what it looks at."""
    largest = {}
    for seed in (0, 1):
        gradients = s.training_gradients(seed) if s.draws else s.loss()[2]
        for name, leaf in named_leaves(gradients).items():
            assert np.isfinite(leaf).all(), f"{name} has a gradient that is not finite"
            largest[name] = max(largest.get(name, 0), float(np.abs(leaf).max()))
    dead = [name for name, size in largest.items() if size == 0]
    assert not dead, f"no gradient reaches {dead}"


def check_the_image_matters(s):
    """C2.24: another picture or text, another loss and other logits, in every row."""
    before = s.forward()
    (source,) = s.sources
    rolled = {source: np.roll(s.batch[source], 1, axis=0)}
    swapped = s.forward(**rolled)
    empty = s.forward(**{source: np.zeros_like(s.batch[source])})
    for row in range(B):
        assert np.abs(swapped[row] - before[row]).max() > 1e-4, f"row {row} ignores its picture"
        assert np.abs(empty[row] - before[row]).max() > 1e-4
    assert s.loss()[0] != s.loss(**rolled)[0]


def check_steps_equal_the_full_forward(s):
    """C2c.46: logits from the cache, one token at a time, at every position."""
    np.testing.assert_allclose(s.stepped(s.memory()), s.forward(), rtol=1e-4, atol=1e-4)


def check_padding_in_the_memory_is_not_seen(s):
    """C1.8, 10: what stands where the memory's mask is False has no effect; a row without any memory is finite."""
    memory = jax.device_get(s.memory())
    mask = np.random.default_rng(0).random(memory.mask.shape) < 0.5
    mask[0], mask[1, 0], mask[1, 1] = False, True, False  # row 0 has nothing to look at
    masked = memory.replace(mask=mask)
    garbage = masked.replace(values=np.where(mask[..., None], memory.values, 1e3))
    for read in (s.over, s.stepped):
        before = read(masked)
        np.testing.assert_array_equal(before, read(garbage))
        assert np.isfinite(before).all()
        assert np.abs(before - read(memory)).max() > 1e-4, "the mask has no effect"


def check_greedy_follows_the_forward(s):
    """C2c.47, 48: every token is the argmax of a full forward over what was written; PAD after EOS."""
    found = s.decode(GREEDY)
    tokens = found.tokens[:, 0]
    inputs = np.concatenate([np.full((B, 1), BOS), tokens[:, :-1]], axis=1).astype(np.int32)
    logits = s.forward(target=inputs).copy()
    logits[..., [PAD, BOS]] = -np.inf
    for row in range(B):
        length = found.lengths[row, 0]
        written = tokens[row, :length]
        best = logits[row, np.arange(length)]
        assert (best.max(-1) - best[np.arange(length), written] < 1e-4).all()
        assert EOS not in written[:-1] and (tokens[row, length:] == PAD).all()
        assert length == MAX_LENGTH or written[-1] == EOS


def check_decoded_rows_do_not_mix(s):
    """C2c.47: a row's text is the same with other neighbours, greedy and beam."""
    kept = np.array([True, False, True, False])
    others = s.with_others_beside(kept)
    for strategy in (GREEDY, BEAM):
        before, after = s.decode(strategy), s.decode(strategy, **others)
        np.testing.assert_array_equal(before.tokens[kept], after.tokens[kept])
        np.testing.assert_allclose(before.scores[kept], after.scores[kept], rtol=1e-5)


def check_beam_scores_are_those_of_the_forward(s):
    """C2c.49, 51: log probabilities and scores = a teacher-forced forward over the returned tokens."""
    found = s.decode(BEAM)
    for rank in range(BEAM.num_results):
        log_probs, lengths = s.score(found.tokens[:, rank])
        np.testing.assert_array_equal(found.lengths[:, rank], lengths)
        np.testing.assert_allclose(found.log_probs[:, rank], log_probs, rtol=1e-4, atol=1e-4)
        scores = log_probs / lengths**BEAM.length_penalty
        np.testing.assert_allclose(found.scores[:, rank], scores, rtol=1e-4, atol=1e-4)


def check_scoring_equals_the_loss(s):
    """C2c.51: sum of log p from the forward = - loss x tokens from the task."""
    _, mean, _ = s.loss()
    log_probs, lengths = s.score(s.labels)
    assert lengths.sum() == float(mean.count)
    np.testing.assert_allclose(-log_probs.sum(), float(mean.total), rtol=1e-4)


def check_compiling_changes_nothing(s):
    """C2.30: the same numbers without jit."""
    plain = s.model.apply(s.variables, s._read(), train=False)
    np.testing.assert_allclose(plain, s.forward(), rtol=1e-5, atol=1e-5)


def check_a_word_is_not_the_same_everywhere(s):
    """One word again and again: the logits after it depend on where it stands."""
    logits = s.forward(target=np.full_like(s.inputs, NUM_SPECIAL))
    moved = np.abs(np.diff(logits, axis=1)).max(-1)  # [b l-2]
    assert (moved[:, :3] > 1e-4).all(), "no position has an effect"


def check_the_prefix_sees_itself(s):
    """C1.7: by the hidden states at the prefix's places: bidirectional, and exact-equal for any text."""
    before = s.prefix_states()
    assert len(before) >= 2, "one layer hides a leak"
    for a, b in zip(before, s.prefix_states(target=np.where(s.inputs > 3, 4, s.inputs))):
        np.testing.assert_array_equal(a, b)
    image = s.batch["image"].copy()
    image[:, -1] += 1
    moved = np.abs(s.prefix_states(image=image)[-1] - before[-1])
    assert (moved[:, 0].max(-1) > 1e-5).all(), "the first place does not see the last"


CHECKS = (
    check_chain_rule,
    check_causality_by_change,
    check_causality_by_gradient,
    check_a_word_is_not_the_same_everywhere,
    check_rows_that_are_not_valid,
    check_rows_add_by_their_tokens,
    check_uniform_logits_cost_ln_v,
    check_evaluation_is_deterministic,
    check_training_is_noisy,
    check_rows_do_not_mix,
    check_gradients_reach_every_parameter,
    check_the_image_matters,
    check_steps_equal_the_full_forward,
    check_padding_in_the_memory_is_not_seen,
    check_greedy_follows_the_forward,
    check_decoded_rows_do_not_mix,
    check_beam_scores_are_those_of_the_forward,
    check_scoring_equals_the_loss,
)
