"""What holds of text to picture by codes: the loss, the guidance, the two ways of writing, the painting."""

import dataclasses
import functools
import math
from types import SimpleNamespace as Part

import jax
import jax.numpy as jnp
import numpy as np

from tests import model_zoo
from tests.decoding.toys import compiled, log_softmax
from vlm_jax.data.codes import CodesToTarget
from vlm_jax.decoding import guidance
from vlm_jax.decoding.base import tile
from vlm_jax.decoding.masked import MASK, MaskedDecoding
from vlm_jax.decoding.sampling import Greedy, Sampling
from vlm_jax.language.transformer import TransformerDecoder, TransformerEncoder
from vlm_jax.layers.quantisation import FiniteScalarQuantiser
from vlm_jax.metrics.prompt_holds import PlanHolds
from vlm_jax.models.picture_generator import PictureGenerator
from vlm_jax.tasks import painting, text_to_image
from vlm_jax.text.scene_judge import Scene, SceneObject
from vlm_jax.text.scene_plan import ScenePlan
from vlm_jax.train.optimizers import Adam
from vlm_jax.train.state import init_state
from vlm_jax.train.steps import train_step
from vlm_jax.types import BOS, EOS, NUM_SPECIAL, PAD, UNK, Features
from vlm_jax.vision.image_tokenizer import ImageTokenizer, PictureDecoder, PictureEncoder

PLACES, NUM_CODES = 4, 9
V = NUM_CODES + NUM_SPECIAL
PROMPTS = np.array([[BOS, 4, 5, EOS], [BOS, 5, EOS, PAD], [BOS, 6, 4, EOS], [BOS, 7, EOS, PAD]])
CODES = np.array([[0, 8, 3, 3], [5, 1, 0, 7], [2, 2, 6, 4], [8, 0, 1, 5]])
TX = Adam(learning_rate=0.02, frozen=("^image_tokenizer/",)).build()


def batch(rows=(0, 1, 2, 3)):
    rows = np.asarray(rows)
    to_target = CodesToTarget(num_codes=NUM_CODES)
    targets = [to_target({"id": 0, "image": CODES[row][:, None]})["target"] for row in rows]
    return {
        "text": PROMPTS[rows].astype(np.int32),
        "target": np.stack(targets),
        "valid": np.ones(len(rows), bool),
        "id": rows.astype(np.int32),
    }


def codec():
    cnn = {"features": (4,), "patch": 4, "num_blocks": 0}
    return ImageTokenizer(
        encoder=PictureEncoder(**cnn),
        decoder=PictureDecoder(**cnn),
        quantiser=FiniteScalarQuantiser(levels=(3, 3)),
        grid=(2, 2),
    )


def task(masked=False, **fields):
    fields.setdefault("num_samples", 2)
    if masked:
        decoding = MaskedDecoding(max_length=PLACES, num_steps=2, choice_temperature=0.0)
        return text_to_image.MaskedTextToImage(tokenizer=None, decoding=decoding, **fields)
    limits = {"max_length": PLACES + 1, "min_length": PLACES + 1}
    decoding = Sampling(**limits, banned=(PAD, BOS, UNK))
    return text_to_image.TextToImage(tokenizer=None, decoding=decoding, **fields)


class Painter:
    """Tiny painters that have learned four prompts by heart, one code after another and masked."""

    @functools.cache  # noqa: B019  an instance lives as long as its checks
    def model(self, masked):
        sizes = {"width": 16, "num_layers": 1, "num_heads": 2, "hidden": 32}
        return PictureGenerator(
            decoder=TransformerDecoder(
                vocab_size=V, max_length=PLACES + 2, causal=not masked, **sizes
            ),
            text_encoder=TransformerEncoder(vocab_size=8, max_length=4, **sizes),
            image_tokenizer=codec(),
        )

    @functools.cache  # noqa: B019
    def start(self, masked):
        make = compiled(lambda key: init_state(self.model(masked), TX, batch(), key))
        return _drawing(make(jax.random.key(0)))

    @functools.cache  # noqa: B019
    def trained(self, masked, steps=120):
        """(the state at the start, after training, the losses on the way)"""
        state = start = self.start(masked)
        one = compiled(train_step(self.model(masked), task(masked), TX))
        losses = []
        for _ in range(steps):
            state, metrics = one(state, batch(), jax.random.key(1))
            losses.append(float(metrics["loss"].value()))
        return start, state, losses

    @functools.cache  # noqa: B019
    def painted(self, masked, scale=1.0):
        chosen = task(masked, guidance=scale)
        return compiled(
            lambda variables, batch, key: chosen.predict(self.model(masked), variables, batch, key)
        )

    @functools.cache  # noqa: B019
    def of_codes(self):
        """The pictures [rows h w c] of codes, by the image tokenizer alone."""
        variables = {"params": self.start(False).params["image_tokenizer"]}
        return compiled(lambda codes: codec().apply(variables, codes, method="decode") * 0.5 + 0.5)


def _drawing(state):
    """With an image tokenizer whose codes look different; at the beginning it paints everything grey."""
    pixels = state.params["image_tokenizer"]["decoder"]["pixels"]
    kernel = np.random.default_rng(0).normal(size=pixels["kernel"].shape) * 0.3
    codec = {**state.params["image_tokenizer"]["decoder"], "pixels": {**pixels, "kernel": kernel}}
    params = {**state.params, "image_tokenizer": {"decoder": codec}}
    return state.replace(params=jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params))


def places(*, by_columns=False):
    """What of an image tokenizer a task asks for that paints nothing."""
    quantiser = Part(num_codes=NUM_CODES)
    return Part(num_places=PLACES, grid=(2, 2), by_columns=by_columns, quantiser=quantiser)


def planned_targets(plan, *objects):
    """Targets of pictures of one object each."""
    to_target = CodesToTarget(num_codes=NUM_CODES, plan=plan)
    scenes = (Scene(objects=(SceneObject(**each),)).to_json() for each in objects)
    examples = (
        {"id": i, "image": CODES[i][:, None], "scene": scene} for i, scene in enumerate(scenes)
    )
    return np.stack([to_target(example)["target"] for example in examples])


class Copies:
    """A model that is sure of the token it reads: what sees its answer has no loss at all."""

    def apply(self, variables, batch, *, train, rngs, mutable):
        return 20.0 * jax.nn.one_hot(batch["target"], V), {}


class Tells:
    """A model whose loss is the share of empty prompts."""

    def apply(self, variables, batch, *, train, rngs, mutable):
        empty = (batch["text"] == painting.no_prompt(batch["text"])).all(1)
        logits = jnp.where(empty, 0.0, 50.0)[:, None, None] * jax.nn.one_hot(CODES[0, 0] + 4, V)
        return jnp.broadcast_to(logits, (*batch["target"].shape, V)), {}


def metrics(chosen, model, rows, rngs, *, train):
    """Those of a task's loss, of a model without parameters."""
    loss = compiled(
        lambda rows, rngs: chosen.loss(model, {}, rows, rngs=rngs, train=train)[1].metrics
    )
    return loss(rows, rngs)


def behind_a_plan(plan, *, temperature=1.0, **fields):
    """A task of masked codes behind a plan, which is the likeliest."""
    length = plan.length
    planning = Sampling(
        max_length=length,
        min_length=length,
        temperature=0.0,
        stages=text_to_image.stages_of(plan, PLACES, NUM_CODES)[:1],
    )
    decoding = MaskedDecoding(
        max_length=PLACES, num_steps=1, temperature=temperature, choice_temperature=0.0
    )
    return text_to_image.MaskedTextToImage(
        tokenizer=None, plan=plan, planning=planning, decoding=decoding, **fields
    )


STAR = {"shape": "star", "color": "yellow", "size": "small", "y": 7, "radius": 5}


class Stumbles:
    """A model that is sure of every token but one, of which it knows nothing."""

    def __init__(self, place, targets, *, by_columns):
        self.place, self.labels = place, jnp.asarray(targets)[:, 1:]
        self.image_tokenizer = places(by_columns=by_columns)

    def apply(self, variables, batch, *, train, rngs, mutable):
        sure = 50.0 * jax.nn.one_hot(self.labels, V + ScenePlan().vocab_size)
        return sure.at[:, self.place].set(0.0), {}


def behind_seven():
    """A painter of masked codes behind BOS and a plan of one object."""
    plan, sizes = ScenePlan(num_objects=1), {"width": 16, "num_heads": 2, "hidden": 32}
    return PictureGenerator(
        decoder=TransformerDecoder(
            vocab_size=V + plan.vocab_size,
            num_layers=2,
            max_length=plan.length + PLACES + 2,
            relative=16,
            causal=False,
            num_causal=1 + plan.length,
            **sizes,
        ),
        text_encoder=TransformerEncoder(vocab_size=8, num_layers=1, max_length=4, **sizes),
        image_tokenizer=codec(),
    )


class StumblesBehind(Stumbles):
    """The same of masked codes behind a plan of seven: a token of the plan is told by the one before it, a code in its own
    place, and BOS and the plan stand before the codes."""

    def apply(self, variables, batch, *, train, rngs, mutable):
        sure, updated = super().apply(variables, batch, train=train, rngs=rngs, mutable=mutable)
        unused = jnp.zeros_like(sure[:, :1])
        return jnp.concatenate([sure[:, :7], unused, sure[:, 7:-1]], axis=1), updated


class CopiesBehind:
    """A model that is sure of the token it reads, among those of a plan too."""

    def apply(self, variables, batch, *, train, rngs, mutable):
        return 20.0 * jax.nn.one_hot(batch["target"], V + ScenePlan().vocab_size), {}


class Recites:
    """A model that is sure of the next token of `targets`, a row each, and surer still of the first token of the other
    kind; its pictures are its codes."""

    image_tokenizer = places()

    def __init__(self, targets):
        self.targets = jnp.asarray(targets)

    def apply(self, variables, *arguments, method, **_):
        return getattr(self, method)(*arguments)

    def encode(self, batch):
        mask = batch["text"] != PAD
        return Features(values=mask[..., None].astype(jnp.float32), mask=mask)

    def initial_cache(self, memory, rows, length):
        return jnp.zeros(rows, jnp.int32)

    def step(self, token, cache, memory):
        rows = jnp.arange(len(cache)) // (len(cache) // len(self.targets))
        following = self.targets[rows, cache + 1]
        other = jnp.where(following >= V, NUM_SPECIAL, V)
        size = V + ScenePlan().vocab_size
        return 5 * jax.nn.one_hot(following, size) + 9 * jax.nn.one_hot(other, size), cache + 1

    def paint(self, tokens):
        return (tokens[:, :, None, None] - NUM_SPECIAL) / NUM_CODES


# ---- the loss


def check_nothing_sees_what_it_is_to_predict(subject):
    """No code of these pictures is its neighbour, so what copies is wrong about every one: 20 nats."""
    for masked in (False, True):
        given = batch((1, 3))
        rngs = {"noise": jax.random.key(0), "sampling": jax.random.key(1)}
        found = metrics(task(masked), Copies(), given, rngs, train=True)
        assert float(found["loss"].value()) > 19
        assert found["token_accuracy"].value() == 0
        if not masked:
            assert found["loss"].count == 2 * (PLACES + 1)
    plan = ScenePlan(num_objects=1)
    given = {**given, "target": planned_targets(plan, *({**STAR, "x": x} for x in (9, 40)))}
    chosen = behind_a_plan(plan)
    found = metrics(chosen, CopiesBehind(), given, rngs, train=True)
    assert float(found["loss"].value()) > 19
    assert found["token_accuracy"].value() == 0
    masks = chosen.masked(given, rngs["sampling"])
    assert masks.shape == (2, PLACES)
    assert found["loss"].count == 2 * plan.length + masks.sum()


def check_masks_are_as_many_as_the_cosine_says(subject):
    """Of 4 codes ceil(4 cos(pi r / 2)): at least 1, and 4 for r < 0.46. Only they are counted, in valid rows."""
    many = {**batch([0] * 4000), "id": np.arange(4000)}
    masked = compiled(lambda many, key: task(True).masked(many, key))
    chosen = np.asarray(masked(many, jax.random.key(3))).sum(1)
    expected = []
    for number in range(1, 5):
        below, above = (2 / math.pi * math.acos(n / 4) for n in (number - 1, number))
        expected.append(below - above)
    found = np.bincount(chosen, minlength=5)[1:] / 4000
    assert chosen.min() == 1
    np.testing.assert_allclose(found, expected, atol=0.03)
    again = [np.asarray(masked(many, None)) for _ in range(2)]
    np.testing.assert_array_equal(*again)
    turned = {**many, "id": many["id"][::-1]}
    np.testing.assert_array_equal(masked(turned, None), again[0][::-1])
    given = {**many, "valid": np.arange(4000) < 10}
    counted = metrics(task(True), Copies(), given, {}, train=False)["loss"].count
    assert counted == again[0][:10].sum()


def check_prompts_are_left_empty_in_training_as_often_as_said(subject):
    rows = batch([0] * 2000)
    rows["target"][:, 1:-1] = CODES[0, 0] + NUM_SPECIAL
    for masked in (False, True):
        chosen = task(masked, prompt_dropout=0.25)
        rngs = {"noise": jax.random.key(0), "sampling": jax.random.key(1)}
        found = [
            float(metrics(chosen, Tells(), rows, rngs, train=train)["loss"].total) / 2000
            for train in (True, False)
        ]
        if masked:
            masks = compiled(lambda rows, key, chosen=chosen: chosen.masked(rows, key))
            counts = np.asarray(masks(rows, rngs["sampling"])).sum(1).mean()
            np.testing.assert_allclose(found[0], 0.25 * counts * math.log(V), rtol=0.12)
        else:  # EOS, which Tells does not know, costs 50 where there is a prompt
            np.testing.assert_allclose(
                found[0], 0.25 * (PLACES + 1) * math.log(V) + 0.75 * 50, rtol=0.05
            )
        assert found[1] < 1e-3 or abs(found[1] - 50) < 1e-3
    empty = painting.no_prompt(jnp.asarray(PROMPTS))
    assert empty.tolist() == [[BOS, EOS, PAD, PAD]] * 4


# ---- guidance


def check_guidance_goes_away_from_the_empty_prompt(subject):
    """With 0, 1 and 3 times the difference, by hand; and step by step on tables, one for each prompt."""
    given, empty = jnp.array([2.0, 0.0]), jnp.array([1.0, 1.0])
    for scale, expected in ((0, [1, 1]), (1, [2, 0]), (3, [4, -2])):
        np.testing.assert_allclose(guidance.guide(given, empty, scale), expected)
    tables = np.random.default_rng(0).normal(size=(2, 3, V, V)).astype(np.float32)

    def step(token, cache, memory):
        rows, table = jnp.arange(3), memory["table"]
        logits = table[rows, cache["last"]] + table[rows, token, 0][:, None] + table[rows, token]
        return logits, {"last": (token + memory["turn"]) % V}

    def logits_of(which, row, last, token):
        table = tables[which, row]
        return table[last] + table[token, 0] + table[token]

    turns = (0, 5)  # so that the two caches differ
    memories = (
        {"table": jnp.asarray(table), "turn": jnp.full(3, turn)}
        for table, turn in zip(tables, turns)
    )
    caches = ({"last": jnp.zeros(3, jnp.int32)} for _ in range(2))
    both, cache = guidance.Both(*memories), guidance.Both(*caches)
    written = compiled(
        lambda: Greedy(max_length=6, min_length=6, banned=(PAD, BOS))(
            guidance.guided(step, 2.5), cache, both, batch_size=3
        )
    )()
    for row in range(3):
        last, token, total = (0, 0), BOS, 0.0
        for chosen in np.asarray(written.tokens)[row, 0]:
            ours, theirs = (logits_of(which, row, last[which], token) for which in (0, 1))
            logits = theirs + 2.5 * (ours - theirs)
            total += log_softmax(logits)[chosen]
            allowed = [t for t in range(V) if t not in (PAD, BOS, EOS)]
            if chosen != EOS:
                assert chosen == max(allowed, key=lambda t: logits[t])
            last, token = [(token + turn) % V for turn in turns], int(chosen)
        np.testing.assert_allclose(written.log_probs[row, 0], total, rtol=1e-4)


def check_guidance_of_a_trained_painter(subject):
    """3 paints what belongs to the prompt; 0 forgets the prompt: what is painted for one is painted for all."""
    for masked in (False, True):
        variables, key = subject.trained(masked)[1].variables, jax.random.key(0)
        gold = np.clip(np.asarray(subject.of_codes()(CODES)), 0, 1)[:, None]
        strong, without = subject.painted(masked, 3.0), subject.painted(masked, 0.0)
        found = [
            np.asarray(without(variables, batch(rows), key).images)
            for rows in ([0, 1, 2, 3], [3, 2, 1, 0])
        ]
        # The same noise, row by row, for other prompts.
        np.testing.assert_allclose(found[0], found[1], atol=1e-5)
        errors = [
            np.square(np.asarray(images) - gold).mean()
            for images in (strong(variables, batch(), key).images, found[0])
        ]
        assert errors[0] < 0.02 < errors[1], (masked, errors)


# ---- masked decoding


def masked_table(seed=0, places=5, size=7):
    """read(tokens): logits that depend on every token that is not masked."""
    rng = np.random.default_rng(seed)
    alone = rng.normal(size=(places, size)) * 2
    beside = rng.normal(size=(places, size, places, size))

    def logits(tokens):
        found = np.array(alone)
        for place, token in enumerate(tokens):
            if token != MASK:
                found = found + beside[place, token]
        return found

    def read(tokens, memory):
        known = jax.nn.one_hot(tokens, size) * (tokens != MASK)[..., None]
        return jnp.asarray(alone, jnp.float32) + jnp.einsum(
            "bpv,pvqw->bqw", known, jnp.asarray(beside, jnp.float32)
        )

    return read, logits


def check_how_many_stay_masked(subject):
    assert MaskedDecoding(max_length=8, num_steps=4).masked_after() == (7, 5, 3, 0)
    assert MaskedDecoding(max_length=3, num_steps=3).masked_after() == (2, 1, 0)
    assert MaskedDecoding(max_length=5, num_steps=1).masked_after() == (0,)


def check_the_surest_come_first(subject):
    """Without noise it is what numpy finds by taking, in each reading, the likeliest token of each place, and keeping
    those that are likeliest of all."""
    for num_steps in (1, 3, 5):
        read, logits = masked_table(num_steps)
        strategy = MaskedDecoding(
            max_length=5, num_steps=num_steps, temperature=1e-4, choice_temperature=0.0
        )
        run = compiled(lambda key: strategy(read, None, batch_size=1, key=key))  # noqa: B023
        found = run(jax.random.key(0))
        tokens, total = [MASK] * 5, 0.0
        for left in strategy.masked_after():
            log_probs = log_softmax(logits(tokens))
            best = [max(range(4, 7), key=lambda t: row[t]) for row in log_probs]
            masked = [place for place in range(5) if tokens[place] == MASK]
            masked.sort(key=lambda place: -log_probs[place, best[place]])
            for place in masked[: len(masked) - left]:
                tokens[place] = best[place]
                total += log_probs[place, best[place]]
        assert found.tokens[0, 0].tolist() == tokens
        np.testing.assert_allclose(found.log_probs[0, 0], total, rtol=1e-4)


def check_masked_draws_are_those_of_the_model(subject):
    """In one reading every place is drawn from its own distribution; in two, the pair from that of the model that is
    sure of one place first."""
    many = 4000
    read, logits = masked_table(1, places=2)
    strategy = MaskedDecoding(max_length=2, num_steps=1, num_results=many)
    found = compiled(lambda key: strategy(read, None, batch_size=1, key=key))(jax.random.key(0))
    tokens = np.asarray(found.tokens)[0]
    assert tokens.min() == 4 and (found.lengths == 2).all()
    for place in range(2):
        allowed = np.exp(log_softmax(logits([MASK, MASK])[place, 4:]))
        np.testing.assert_allclose(np.bincount(tokens[:, place])[4:] / many, allowed, atol=0.03)
    # The two places are drawn apart.
    joint = np.zeros((3, 3))
    np.add.at(joint, (tokens[:, 0] - 4, tokens[:, 1] - 4), 1 / many)
    np.testing.assert_allclose(joint, joint.sum(1)[:, None] * joint.sum(0), atol=0.02)


def check_masked_noise_is_that_of_the_row(subject):
    """Four rows give what the first two give by themselves; samples of a row differ."""
    read, _ = masked_table(2)
    strategy = MaskedDecoding(max_length=5, num_steps=3)
    four, two = (
        compiled(lambda key: strategy(read, None, batch_size=rows, key=key).tokens)(  # noqa: B023
            jax.random.key(0)
        )
        for rows in (4, 2)
    )
    np.testing.assert_array_equal(four[:2], two)
    assert len(np.unique(np.asarray(four)[:, 0], axis=0)) > 1


# ---- painting


def check_codes_become_tokens_and_pictures_again(subject):
    """The target of codes, painted, is what the image tokenizer makes of the codes."""
    given = batch()
    assert given["target"][1].tolist() == [BOS, 9, 5, 4, 11, EOS]
    variables = subject.start(False).variables
    painted = subject.model(False).apply(variables, given["target"][:, 1:-1], method="paint")
    expected = subject.of_codes()(CODES)
    np.testing.assert_allclose(painted * 0.5 + 0.5, expected, atol=1e-6)
    assert np.abs(np.asarray(expected[0] - expected[1])).max() > 1e-4


def check_a_plan_is_written_before_the_codes_and_not_painted(subject):
    """A model that recites targets: the codes behind the plan are painted, and only they; each kind of token is held to
    its own numbers even where the model is as sure of others."""
    plan = ScenePlan(num_objects=1)
    targets = planned_targets(plan, *({**STAR, "x": x} for x in (9, 40)))
    beyond = V + plan.vocab_size
    assert (targets[:, 1:8] >= V).all() and (targets[:, 1:8] < beyond).all()
    stages = text_to_image.stages_of(plan, PLACES, NUM_CODES)
    assert stages == ((7, V, beyond - 1), (PLACES, NUM_SPECIAL, V - 1))
    length = plan.length + PLACES + 1
    decoding = Sampling(max_length=length, min_length=length, temperature=0.0, stages=stages)
    chosen = task(plan=plan, plan_metrics=(PlanHolds(),))
    chosen = dataclasses.replace(chosen, decoding=decoding, mean=0.0, std=1.0)
    given = {**batch((0, 1)), "target": targets}
    predict = compiled(lambda batch, key: chosen.predict(Recites(targets), {}, batch, key))
    painted = predict(given, jax.random.key(0))
    np.testing.assert_allclose(painted.images[:, 0, :, 0, 0] * NUM_CODES, CODES[:2], atol=1e-5)
    sides = [{"prompt": (f"a yellow star on the {side}",)} for side in ("left", "right")]
    for gold, holds in ((sides, 100), (sides[::-1], 0), (sides[:1] * 2, 50)):
        found = chosen.report(chosen.score(painted, given, dict(enumerate(gold))))
        assert found == {"plan_holds": holds}


def check_codes_of_the_background_count_as_little_as_said(subject):
    """The star reaches one cell of four, the upper right; row by row that is the second code, column by column the third. The
    plan before the codes and EOS after them count whole."""
    plan = ScenePlan(num_objects=1)
    targets = planned_targets(plan, {**STAR, "x": 45})
    given = {**batch((0,)), "target": targets}
    chosen = task(plan=plan, background_weight=0.25)
    for by_columns, codes in ((False, (0.25, 1, 0.25, 0.25)), (True, (0.25, 0.25, 1, 0.25))):
        expected = (*7 * [1], *codes, 1)
        for place, weight in enumerate(expected):
            model = Stumbles(place, targets, by_columns=by_columns)
            loss, aux = chosen.loss(model, {}, given, rngs={}, train=False)
            unweighted = float(aux.metrics["loss"].value())
            assert unweighted > 0.3
            np.testing.assert_allclose(loss, weight * unweighted, rtol=1e-4)


def check_masked_codes_count_behind_a_plan_as_little_as_said(subject):
    """As above, of the codes that are masked; of the others nothing is asked."""
    plan = ScenePlan(num_objects=1)
    targets = planned_targets(plan, {**STAR, "x": 45})
    given = {**batch((0,)), "target": targets}
    chosen = behind_a_plan(plan, background_weight=0.25)
    masked = np.asarray(chosen.masked(given, None))[0]
    assert 0 < masked.sum()
    for place, weight in enumerate((*7 * [1], 0.25, 1, 0.25, 0.25)):
        model = StumblesBehind(place, targets, by_columns=False)
        loss, aux = chosen.loss(model, {}, given, rngs={}, train=False)
        unweighted = float(aux.metrics["loss"].value())
        assert (unweighted > 0.3) == (place < 7 or masked[place - 7]), place
        np.testing.assert_allclose(loss, weight * unweighted, rtol=1e-4, atol=1e-6)


def check_masked_codes_are_read_behind_the_plan_of_their_own_picture(subject):
    """Of random weights, three samples of each of two prompts, with guidance: each token of the plan is the likeliest of
    the plan's given BOS and those before it, and each code the likeliest given prompt and plan, all codes masked, as the
    whole is read at once. Where they are drawn, samples of a prompt differ."""
    plan, model = ScenePlan(num_objects=1), behind_seven()
    targets = planned_targets(plan, *({**STAR, "x": x} for x in (9, 40)))
    given = {**batch((0, 1)), "target": targets}
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), given, train=False))
    variables = model_zoo.filled(shapes, seed=5)

    def memories(variables):
        nothing = {**given, "text": painting.no_prompt(jnp.asarray(given["text"]))}
        return tuple(
            model.apply(variables, each, train=False, method="encode") for each in (given, nothing)
        )

    def written(temperature):
        chosen = behind_a_plan(plan, temperature=temperature, guidance=2.5, num_samples=3)
        run = compiled(
            lambda variables, key: chosen.write(model, variables, *memories(variables), key).tokens
        )
        return np.asarray(run(variables, jax.random.key(0)))

    @compiled
    def read_whole(variables, tokens):
        given, empty = (
            model.apply(variables, tokens, tile(memory, 3, 2), train=False, method="read")
            for memory in memories(variables)
        )
        return empty + 2.5 * (given - empty)

    length = plan.length
    tokens = written(1e-5).reshape(6, -1)
    plans = tokens[:, :length]
    before = np.concatenate([np.full((6, 1), BOS), plans, np.full((6, PLACES), MASK)], axis=1)
    logits = np.asarray(read_whole(variables, before))
    np.testing.assert_array_equal(plans, V + logits[:, :length, V:].argmax(-1))
    codes = logits[:, length + 1 :, NUM_SPECIAL:V].argmax(-1)
    np.testing.assert_array_equal(tokens[:, length:], NUM_SPECIAL + codes)
    assert (tokens[0] != tokens[3]).any()
    for samples in written(1.0)[..., length:]:
        assert len(np.unique(samples, axis=0)) > 1


def check_a_painter_learns_four_prompts_by_heart_and_paints_them(subject):
    """s pictures a prompt, each that of its own prompt, in whatever row it stands; what is not valid is not shown."""
    for masked in (False, True):
        _, state, losses = subject.trained(masked)
        assert np.mean(losses[-10:]) < 0.7 < losses[0], (masked, losses[::20])
        gold = np.clip(np.asarray(subject.of_codes()(CODES)), 0, 1)
        for rows in ([0, 1, 2, 3], [2, 0, 3, 1]):
            given = batch(rows)
            del given["target"]  # nobody has it
            painted = subject.painted(masked)(state.variables, given, jax.random.key(5))
            images = np.asarray(painted.images)
            assert images.shape == (4, 2, 8, 8, 3)
            assert images.min() >= 0 and images.max() <= 1
            closest = [np.square(gold - image).sum((1, 2, 3)).argmin() for image in images[:, 0]]
            assert closest == rows, (masked, closest)
        given["valid"] = np.array([True, False, True, False])
        shown = task(masked).examples(painted, given)
        assert [each["id"] for each in shown] == [2, 3]
        assert shown[0]["pictures"].dtype == np.uint8
        assert shown[0]["pictures"].shape == (2, 8, 8, 3)


def check_the_image_tokenizer_stays_as_it_was(subject):
    for masked in (False, True):
        start, end, _ = subject.trained(masked)
        frozen = [state.params["image_tokenizer"] for state in (start, end)]
        jax.tree.map(np.testing.assert_array_equal, *frozen)
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), start.params, end.params)
        del moved["image_tokenizer"]
        for path, has in jax.tree_util.tree_leaves_with_path(moved):
            assert has, (masked, jax.tree_util.keystr(path))


def check_a_masked_reader_sees_both_sides(subject):
    """Another code at the end changes what is said of the first place; of a causal decoder it does not."""
    tokens = jnp.array([[MASK, 5, 6, 7], [MASK, 5, 6, 9]])
    for masked in (False, True):
        model = subject.model(masked)

        @compiled
        def first(variables, given, model=model):
            memory = model.apply(variables, given, train=False, method="encode")
            return model.apply(variables, tokens, memory, train=False, method="read")[:, 0]

        logits = np.asarray(first(subject.start(masked).variables, batch([0, 0])))
        assert np.allclose(logits[0], logits[1], atol=1e-6) != masked
    decoder = behind_seven().decoder
    tokens = jnp.array([[BOS, *range(V, V + 7), MASK, 5, 6, last] for last in (7, 9)])
    shapes = jax.eval_shape(lambda: decoder.init(jax.random.key(0), tokens, None, train=False))
    variables = model_zoo.filled(shapes)
    read = compiled(lambda variables: decoder.apply(variables, tokens, None, train=False))
    differ = np.abs(np.subtract(*np.asarray(read(variables)))).max(-1) > 1e-4
    assert differ.tolist() == 8 * [False] + 4 * [True]


CHECKS = tuple(value for name, value in list(globals().items()) if name.startswith("check_"))
# What the bugs are tried on: those that train nothing.
QUICK = tuple(
    check
    for check in CHECKS
    if check
    not in (
        check_a_painter_learns_four_prompts_by_heart_and_paints_them,
        check_guidance_of_a_trained_painter,
        check_the_image_tokenizer_stays_as_it_was,
    )
)
