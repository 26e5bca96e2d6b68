"""What must hold of fine-tuning: frozen parameters and rates, low-rank updates, packed and prompted rows, int8, positions.

Nothing is compiled as a whole: the models are tiny, and their operations are the same from check to check.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.model_zoo import filled
from vlm_jax.data import packing, prompted
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import BadExample, Rows
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.language.transformer import TransformerDecoder
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained.positions import ResizedPositions
from vlm_jax.tasks import generation
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train import int8, runs
from vlm_jax.train.lora import Lora
from vlm_jax.train.optimizers import AdamW, Sgd
from vlm_jax.train.state import State, named_leaves
from vlm_jax.types import BOS, EOS, PAD

KEY = jax.random.key(0)
PARAMS = {"encoder": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": 2 * jnp.ones((2, 1))}}
GRADS = jax.tree.map(lambda p: 0.3 * p, PARAMS)


# ---- freezing and rates


def updated(optimizer, steps=3):
    tx, params = optimizer.build(), PARAMS
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def check_frozen_is_frozen_with_decay_and_the_rest_moves():
    """C2.22"""
    optimizer = AdamW(learning_rate=0.1, weight_decay=0.5, no_decay=(), frozen=("^encoder/",))
    params, state = updated(optimizer)
    np.testing.assert_array_equal(params["encoder"]["kernel"], PARAMS["encoder"]["kernel"])
    assert (params["head"]["kernel"] != PARAMS["head"]["kernel"]).all()
    assert not any("encoder" in name for name in named_leaves(state))


def check_each_rate_is_the_closed_form_of_its_first_rule():
    rates = (("^encoder/", 0.25), ("kernel$", 3.0))
    params, _ = updated(Sgd(learning_rate=0.1, rates=rates), steps=1)
    np.testing.assert_allclose(params["encoder"]["kernel"], 1 - 0.1 * 0.25 * 0.3, rtol=1e-6)
    np.testing.assert_allclose(params["head"]["kernel"], 2 - 0.1 * 3.0 * 0.6, rtol=1e-6)


# ---- low-rank updates


class Layers(nn.Module):
    """x [b 3] through a layer of each form: one output axis, several, and several inputs."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.DenseGeneral((2, 2), name="heads")(x)
        x = nn.DenseGeneral(3, axis=(-2, -1), name="output")(jnp.tanh(x))
        return nn.Dense(2, name="dense")(x)


X = jnp.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5]])
ADAPTED = Lora(model=Layers(), rules=("kernel$",), rank=2, alpha=3.0)


def begun(model=ADAPTED):
    return model.init(KEY, X)


def moved():
    variables = begun()
    params = jax.tree.map(lambda p: p + 0.5, variables["params"])
    return {**variables, "params": params}


def check_a_run_begins_as_exactly_the_model_that_it_adapts():
    plain = Layers().init(KEY, X)
    np.testing.assert_array_equal(ADAPTED.apply(begun(), X), Layers().apply(plain, X))


def check_the_gradient_reaches_every_b_at_the_beginning_and_a_after_it():
    def gradient(variables):
        def loss(params):
            return (ADAPTED.apply({**variables, "params": params}, X) ** 2).sum()

        return named_leaves(jax.grad(loss)(variables["params"]))

    first, later = gradient(begun()), gradient(moved())
    assert all(np.any(g != 0) for name, g in first.items() if name.endswith("lora_b"))
    assert all(np.all(np.isfinite(g)) and np.any(g != 0) for g in later.values())


def check_merged_and_unmerged_are_one_function():
    variables = moved()
    merged = ADAPTED.plain(variables)
    ours = ADAPTED.apply(variables, X)
    np.testing.assert_allclose(ours, Layers().apply(merged, X), atol=1e-5)
    assert np.abs(ours - ADAPTED.apply({**variables, **begun()}, X)).max() > 0.1


def check_the_update_is_alpha_over_rank_times_a_b():
    variables = moved()
    a, b = (np.asarray(variables["params"]["dense"][name]) for name in ("lora_a", "lora_b"))
    kernel = np.asarray(variables["base"]["dense"]["kernel"])
    merged = ADAPTED.plain(variables)["params"]["dense"]["kernel"]
    np.testing.assert_allclose(merged, kernel + 3.0 / 2 * a @ b, rtol=1e-5)


def check_low_rank_updates_drop_only_while_training():
    model = Lora(model=Layers(), rules=("kernel$",), rank=2, dropout_rate=0.5)
    rngs, variables = {"dropout": jax.random.key(1)}, moved()
    clean = model.apply(variables, X, train=False, rngs=rngs)
    np.testing.assert_array_equal(clean, model.apply(variables, X, train=False))
    assert (clean != model.apply(variables, X, train=True, rngs=rngs)).any()


class OneDevice:
    single = place_state = staticmethod(lambda state: state)


def check_loaded_parameters_become_the_base():
    variables = begun()
    state = State(
        step=0, params=variables["params"], collections={"base": variables["base"]}, opt_state=()
    )
    loaded = runs.load_pretrained(
        lambda params: jax.tree.map(lambda p: p + 1.0, params), ADAPTED, state, OneDevice
    )
    drawn, base = named_leaves(variables["base"]), named_leaves(loaded.collections["base"])
    for name in drawn:
        np.testing.assert_allclose(base[name], drawn[name] + 1.0, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, variables["params"])


LOW_RANK = (
    check_frozen_is_frozen_with_decay_and_the_rest_moves,
    check_each_rate_is_the_closed_form_of_its_first_rule,
    check_a_run_begins_as_exactly_the_model_that_it_adapts,
    check_the_gradient_reaches_every_b_at_the_beginning_and_a_after_it,
    check_merged_and_unmerged_are_one_function,
    check_the_update_is_alpha_over_rank_times_a_b,
    check_low_rank_updates_drop_only_while_training,
    check_loaded_parameters_become_the_base,
)


# ---- packed and prompted rows

DECODER = TransformerDecoder(vocab_size=16, width=8, num_layers=1, num_heads=2, hidden=8)
WRITER = Generator(decoder=DECODER)
VARIABLES = filled(
    jax.eval_shape(lambda: WRITER.init(KEY, {"target": jnp.ones((1, 8), jnp.int32)}, train=False))
)
TASK = generation.Generation(tokenizer=None, decoding=Greedy(max_length=2))
LINES = Rows(
    names=("question", "answer"),
    rows=(("a b", "c"), ("d", "e f"), ("g", ""), ("a", "h h h h h h h")),
)
WORDS = WordTokenizer(
    corpus=Rows(names=("text",), rows=(("a b c d e f g h",),)), vocab_size=16, texts="text"
)
PROMPT = prompted.Prompt(tokenizer=WORDS, length=4)
ANSWER = prompted.TokenizeAnswer(prompt=PROMPT, max_length=8)


def log_probs(tokens):
    """Of the token after each, by a forward of these alone; always of one shape, so that nothing is compiled anew."""
    row = np.full((1, 9), PAD, np.int32)
    row[0, : len(tokens)] = tokens
    logits = WRITER.apply(VARIABLES, {"target": row}, train=False)
    logits = np.asarray(logits)[0, : len(tokens)]
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def loss_and_count(batch):
    loss, aux = TASK.loss(WRITER, VARIABLES, batch, rngs={}, train=False)
    return float(loss), int(aux.metrics["loss"].count)


def packed_row():
    lines = Rows(names=("caption",), rows=(("a b c",), ("d e",)))
    source = packing.Packed(
        source=lines, tokenize=Tokenize(tokenizer=WORDS, max_length=6), length=10
    )
    return next(Pipeline(source=source, batch_size=1, train=False).batches())[1]


def check_the_packed_loss_is_that_of_each_text_alone():
    """C1.13 and C1.1: chain rule over each text by itself."""
    batch, total, count = packed_row(), 0.0, 0
    for text in ("a b c", "d e"):
        tokens = [BOS, *WORDS.encode(text), EOS]
        alone = log_probs(tokens[:-1])
        total -= sum(alone[place, token] for place, token in enumerate(tokens[1:]))
        count += len(tokens) - 1
    loss, counted = loss_and_count(batch)
    assert counted == count
    np.testing.assert_allclose(loss, total / count, rtol=1e-5)


def check_another_first_text_leaves_the_second_as_it_is_exactly():
    batch = packed_row()
    other = {**batch, "target": batch["target"].copy()}
    other["target"][0, 1:4] = 7
    ours, theirs = (np.asarray(WRITER.apply(VARIABLES, b, train=False)) for b in (batch, other))
    np.testing.assert_array_equal(ours[0, 5:9], theirs[0, 5:9])
    assert (ours[0, 1:5] != theirs[0, 1:5]).any()


def check_every_text_is_packed_once_and_each_in_the_first_row_with_room():
    assert packing.first_fit([3, 3, 1, 2], 5) == ((0, 2), (1, 3))
    sizes = np.random.default_rng(0).integers(1, 9, 50)
    rows = packing.first_fit(sizes, 9)
    assert sorted(i for row in rows for i in row) == list(range(50))
    assert all(sum(sizes[i] for i in row) <= 9 for row in rows)


def check_packed_labels_that_are_only_read_stay_so():
    source = packing.Packed(source=LINES, tokenize=ANSWER, length=10)
    found = []
    for index in range(len(source)):
        row = source[index]
        labels = row["target"][1:][row["predicted"]]
        found += labels.tolist()
    wanted = [t for _, answer in LINES.rows for t in (*WORDS.encode(answer)[:5], EOS)]
    assert found == wanted


def prompted_batch():
    pipeline = Pipeline(source=LINES, transforms=(PROMPT, ANSWER), batch_size=4, train=False)
    return next(pipeline.batches())[1]


def check_the_answer_and_its_end_are_learned_and_nothing_else():
    """C1.2, C1.1: by the chain rule."""
    total, count = 0.0, 0
    for question, answer in LINES.rows:
        before = [BOS, *WORDS.encode(question)]
        said = [*WORDS.encode(answer)[: 7 - len(before)], EOS]
        alone = log_probs(before + said[:-1])[len(before) - 1 :]
        total -= sum(alone[place, token] for place, token in enumerate(said))
        count += len(said)
    batch = {k: v for k, v in prompted_batch().items() if k != "prompt"}
    loss, counted = loss_and_count(batch)
    assert counted == count
    np.testing.assert_allclose(loss, total / count, rtol=1e-5)


def check_the_prompt_of_training_is_that_of_use():
    """C5.52"""
    batch = prompted_batch()
    for row in range(4):
        used = batch["prompt"][row]
        used = used[used != PAD]
        first = int(np.argmax(batch["predicted"][row])) + 1
        assert batch["target"][row, :first].tobytes() == used.tobytes()
    assert (batch["prompt"][:, -1] != PAD).all()


def check_what_is_written_follows_the_prompt():
    batch = prompted_batch()
    found = TASK.predict(WRITER, VARIABLES, batch, KEY)
    for row, (question, _) in enumerate(LINES.rows):
        tokens, total = [BOS, *WORDS.encode(question)], 0.0
        for place in range(2):
            alone = log_probs(tokens)[-1]
            allowed = np.where(np.isin(np.arange(16), (PAD, BOS)), -np.inf, alone)
            tokens.append(int(allowed.argmax()))
            total += alone[tokens[-1]]
            assert int(found.tokens[row, 0, place]) == tokens[-1]
            if tokens[-1] == EOS:
                break
        np.testing.assert_allclose(found.log_probs[row, 0], total, rtol=1e-4)


def check_what_does_not_fit_is_named_and_not_cut():
    """C5.53"""
    long = {"id": 5, "question": "a b c d e f g", "answer": "h"}
    for transform in (PROMPT, ANSWER, prompted.TokenizeAnswer(prompt=PROMPT, max_length=3)):
        try:
            transform(long)
        except BadExample as error:
            assert "example 5" in str(error)
        else:
            raise AssertionError(f"{type(transform).__name__} took a prompt that does not fit")


PACKED = (
    check_the_packed_loss_is_that_of_each_text_alone,
    check_another_first_text_leaves_the_second_as_it_is_exactly,
    check_every_text_is_packed_once_and_each_in_the_first_row_with_room,
    check_packed_labels_that_are_only_read_stay_so,
    check_the_answer_and_its_end_are_learned_and_nothing_else,
    check_the_prompt_of_training_is_that_of_use,
    check_what_is_written_follows_the_prompt,
    check_what_does_not_fit_is_named_and_not_cut,
)


# ---- int8 and positions


def check_each_output_is_rounded_by_its_own_scale():
    """Outputs of very different sizes: each within half a scale of its own."""
    variables = Layers().init(KEY, X)
    sizes = {"heads": jnp.array([[1.0, 100.0], [0.01, 10.0]]), "dense": jnp.array([1.0, 1e-3])}
    kernels = {
        name: {**layer, "kernel": layer["kernel"] * sizes.get(name, 1.0)}
        for name, layer in variables["params"].items()
    }
    model, held = int8.in_int8(Layers(), {"params": kernels}, lambda m, v: m.apply(v, X))
    rounded = model.plain(held)["params"]
    for name, axes in (("heads", 0), ("output", (0, 1)), ("dense", 0)):
        before, after = (np.asarray(tree[name]["kernel"]) for tree in (kernels, rounded))
        step = np.abs(before).max(axis=axes, keepdims=True) / 127
        assert (np.abs(before - after) <= 0.501 * step).all(), name
        assert held["params"][name]["kernel"]["int8"].dtype == jnp.int8
        np.testing.assert_array_equal(rounded[name]["bias"], kernels[name]["bias"])


def check_zero_stays_zero_and_the_largest_stays_itself():
    x = jnp.array([[0.0, 2.0, 0.0], [0.0, -3.0, 5.0]])
    values, scale = int8.quantised(x, (1,))
    back = np.asarray(int8.dequantised(values, scale))
    assert (back[0, [0, 2]] == 0).all() and np.abs(values).max() == 127
    np.testing.assert_allclose(back[[0, 1], [1, 2]], [2.0, 5.0], rtol=1e-6)
    zeros = int8.dequantised(*int8.quantised(jnp.zeros((2, 2)), (0,)))
    np.testing.assert_array_equal(zeros, 0.0)


def loaded(table, old, new, extra=1):
    model = {"positions": {"positions": jnp.zeros((extra + new[0] * new[1], 2))}}
    resized = ResizedPositions(
        init_params=lambda params: {"positions": {"positions": table}}, old=old, new=new
    )
    return np.asarray(resized(model)["positions"]["positions"])


def check_positions_of_the_same_size_are_themselves_and_constants_stay():
    """C2.34"""
    table = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    np.testing.assert_array_equal(loaded(table, (2, 3), (2, 3)), table)
    constant = np.full((7, 2), 3.0, np.float32)
    constant[0] = 50.0
    found = loaded(constant, (2, 3), (3, 5))
    np.testing.assert_array_equal(found[0], 50.0)
    np.testing.assert_allclose(found[1:], 3.0, rtol=1e-6)


def check_rows_stay_rows_when_positions_are_resized():
    """A table that is the number of the row: all columns of a new row are equal, and rows rise."""
    table = np.repeat(np.arange(2.0, dtype=np.float32), 4)[:, None] * np.ones(2, np.float32)
    found = loaded(np.concatenate([np.zeros((1, 2), np.float32), table]), (2, 4), (4, 4))[1:]
    grid = found.reshape(4, 4, 2)
    np.testing.assert_allclose(grid, np.broadcast_to(grid[:, :1], grid.shape), atol=1e-5)
    assert (np.diff(grid[:, 0, 0]) > 0).all()


HELD = (
    check_each_output_is_rounded_by_its_own_scale,
    check_zero_stays_zero_and_the_largest_stays_itself,
    check_positions_of_the_same_size_are_themselves_and_constants_stay,
    check_rows_stay_rows_when_positions_are_resized,
)

CHECKS = (*LOW_RANK, *PACKED, *HELD)
