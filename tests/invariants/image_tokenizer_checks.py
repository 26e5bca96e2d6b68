"""What holds of quantisers, image tokenizers and the numbers they are judged by."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from tests import model_zoo
from tests.decoding.toys import compiled
from vlm_jax.layers.norm import NoNorm
from vlm_jax.layers.quantisation import CODEBOOK, FiniteScalarQuantiser, VectorQuantiser
from vlm_jax.metrics.base import total
from vlm_jax.metrics.code_use import CodeUse
from vlm_jax.metrics.picture_quality import Psnr, Ssim
from vlm_jax.tasks.reconstruction import Perceptual, Reconstruction
from vlm_jax.train.optimizers import Adam
from vlm_jax.train.state import init_state
from vlm_jax.train.steps import train_step
from vlm_jax.vision.image_tokenizer import ImageTokenizer, PictureDecoder, PictureEncoder
from vlm_jax.vision.small_cnn import SmallCnn

ROWS, SIDE = 8, 8


def tokenizer(quantiser, num_blocks=1):
    cnn = {"features": (4, 8), "patch": 2, "num_blocks": num_blocks}
    return ImageTokenizer(
        encoder=PictureEncoder(**cnn),
        decoder=PictureDecoder(**cnn),
        quantiser=quantiser,
        grid=(2, 2),
    )


def batch(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.uniform(-1, 1, (rows, SIDE, SIDE, 3)).astype(np.float32),
        "valid": np.ones(rows, bool),
        "id": np.arange(rows, dtype=np.int32),
    }


class Tokenizer:
    """A tiny tokenizer of each kind, and its functions compiled once."""

    kinds = {
        "vq": VectorQuantiser(num_codes=16, width=3),
        "fsq": FiniteScalarQuantiser(levels=(4, 3, 5)),
    }
    task = Reconstruction(metrics=(Psnr(),))

    def __init__(self):
        self.tx = Adam(learning_rate=0.01).build()

    @functools.cache  # noqa: B019  an instance lives as long as its checks
    def model(self, kind):
        return tokenizer(self.kinds[kind])

    @functools.cache  # noqa: B019
    def start(self, kind):
        make = compiled(lambda key: init_state(self.model(kind), self.tx, batch(), key))
        return make(jax.random.key(0))

    @functools.cache  # noqa: B019
    def step(self, kind):
        step = compiled(train_step(self.model(kind), self.task, self.tx))
        return lambda state, batch: step(state, batch, jax.random.key(1))

    @functools.cache  # noqa: B019
    def evaluated(self, kind):
        def both(variables, batch):
            loss, aux = self.task.loss(self.model(kind), variables, batch, rngs={}, train=False)
            return (
                loss,
                aux.collections,
                self.task.predict(self.model(kind), variables, batch, None),
            )

        return compiled(both)

    @functools.cache  # noqa: B019
    def halves(self, kind):
        def there_and_back(variables, image):
            codes = self.model(kind).apply(variables, image, method="encode")
            return codes, self.model(kind).apply(variables, codes, method="decode")

        return compiled(there_and_back)

    @functools.cache  # noqa: B019
    def trained(self, kind, steps=120):
        """The state after some steps on one batch, and the losses on the way."""
        state, losses = self.start(kind), []
        for _ in range(steps):
            state, metrics = self.step(kind)(state, batch())
            losses.append(float(metrics["loss"].value()))
        return state, losses


def by_hand(vectors, uses, sums, updates=5):
    """A codebook as a collection."""
    arrays = {"vectors": vectors, "uses": uses, "sums": sums}
    made = {name: jnp.array(values, jnp.float32) for name, values in arrays.items()}
    return {CODEBOOK: {**made, "updates": jnp.int32(updates)}}


def quantised(quantiser, variables, x, *, train=True, valid=None):
    return quantiser.apply(
        variables, jnp.array(x, jnp.float32), valid=valid, train=train, mutable=[CODEBOOK]
    )


def check_the_codebook_follows_its_vectors_by_hand(subject):
    """x = 1, 2, 9 and codes at 0 and 10; half of everything old is kept."""
    quantiser = VectorQuantiser(num_codes=2, width=1, decay=0.5, dead_below=0.0)
    start = by_hand([[0], [10]], [1, 1], [[0], [10]])
    found, after = quantised(quantiser, start, [[[1], [2], [9]]])
    assert found.codes.tolist() == [[0, 0, 1]]
    np.testing.assert_allclose(found.values[0, :, 0], [0, 0, 10])  # of the codebook as it was
    np.testing.assert_allclose(found.commitment, [0.25 * (1 + 4 + 1) / 3])
    book = after[CODEBOOK]
    np.testing.assert_allclose(book["uses"], [0.5 + 0.5 * 2, 0.5 + 0.5])
    np.testing.assert_allclose(book["sums"][:, 0], [0.5 * 3, 5 + 0.5 * 9])
    np.testing.assert_allclose(book["vectors"][:, 0], [1.5 / 1.5, 9.5], rtol=1e-6)
    assert book["updates"] == 6


def check_rows_that_are_not_valid_leave_no_trace_in_the_codebook(subject):
    quantiser = VectorQuantiser(num_codes=2, width=1, decay=0.5, dead_below=0.6)
    start = by_hand([[0], [10]], [1, 1], [[0], [10]])
    alone = quantised(quantiser, start, [[[1], [2]]])[1]
    valid = jnp.array([True, False])
    beside = quantised(quantiser, start, [[[1], [2]], [[70], [80]]], valid=valid)[1]
    jax.tree.map(np.testing.assert_array_equal, alone, beside)
    assert beside[CODEBOOK]["vectors"][1, 0] < 3  # the dead code began at a vector that counts


def check_dead_codes_begin_at_vectors_of_the_batch_far_from_any_code(subject):
    """Nine vectors at 0, where a code is, and one at 7: the code at 50 that nobody uses moves there."""
    quantiser = VectorQuantiser(num_codes=2, width=1, decay=0.5, dead_below=0.6)
    x = [[[0]] * 9 + [[7]]]
    for updates in range(5, 10):
        start = by_hand([[0], [50]], [1, 1], [[0], [50]], updates)
        book = quantised(quantiser, start, x)[1][CODEBOOK]
        assert book["vectors"][1, 0] == 7 and book["uses"][1] == 1
        # The one that is used follows its own.
        np.testing.assert_allclose(book["vectors"][0, 0], 0.5 * 7 / (0.5 + 0.5 * 10), rtol=1e-6)
    alive = by_hand([[0], [7]], [1, 1], [[0], [7]])
    assert quantised(quantiser, alive, [[[0], [7]]])[1][CODEBOOK]["vectors"][1, 0] == 7


def check_the_first_batch_begins_the_whole_codebook(subject):
    state, _ = subject.step("vq")(subject.start("vq"), batch())
    book = state.collections[CODEBOOK]["quantiser"]
    assert book["updates"] == 1 and (book["uses"] == 1).all()
    assert len(np.unique(np.asarray(book["vectors"]), axis=0)) == 16


def check_restarts_differ_from_update_to_update_and_not_from_run_to_run(subject):
    quantiser = VectorQuantiser(num_codes=3, width=2, dead_below=1e9)
    x = np.random.default_rng(0).normal(size=(4, 5, 2))
    run = compiled(lambda start: quantised(quantiser, start, x)[1][CODEBOOK]["vectors"])
    table = np.random.default_rng(1).normal(size=(3, 2))
    found = [np.asarray(run(by_hand(table, [1] * 3, table, updates))) for updates in (3, 4, 3)]
    np.testing.assert_array_equal(found[0], found[2])
    assert (found[0] != found[1]).any()


def check_an_evaluation_leaves_the_codebook_alone(subject):
    quantiser = VectorQuantiser(num_codes=2, width=1)
    start = by_hand([[0], [10]], [1, 1], [[0], [10]])
    after = quantised(quantiser, start, [[[1], [2]]], train=False)[1]
    jax.tree.map(np.testing.assert_array_equal, after, start)


def check_the_gradient_passes_straight_through(subject):
    """Of sum(w * values) it is w for the vectors; the commitment pulls them to their code."""
    weights = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(2, 3, 3)).astype(np.float32) * 0.3
    table = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
    quantiser = VectorQuantiser(num_codes=4, width=3, commitment=0.5)
    start = by_hand(table, [1] * 4, table)

    def value(x, of):
        found = quantiser.apply(start, x, train=False)
        return (found.values * weights).sum() if of == "values" else found.commitment.sum()

    np.testing.assert_allclose(jax.grad(value)(x, "values"), weights)
    nearest = ((x[..., None, :] - table) ** 2).sum(-1).argmin(-1)
    pull = 2 * 0.5 * (x - table[nearest]) / 9
    np.testing.assert_allclose(jax.grad(value)(x, "commitment"), pull, rtol=1e-4, atol=1e-6)
    rounding = FiniteScalarQuantiser(levels=(5, 5, 5))

    def rounded(x):
        return (rounding.apply({}, x, train=False).values * weights).sum()

    slope = weights * (1 - np.tanh(x) ** 2) * 1.998 / 2
    np.testing.assert_allclose(jax.grad(rounded)(x), slope, rtol=1e-4, atol=1e-6)


def check_rounding_by_hand(subject):
    """Levels 4 and 3: the whole numbers -2 .. 1 and -1 .. 1, and no others; 0 is rounded to 0."""
    quantiser = FiniteScalarQuantiser(levels=(4, 3))
    apart = np.float32([[[-9.0, -9.0], [0.0, 0.0], [9.0, 9.0], [9.0, -9.0]]])
    found = quantiser.apply({}, apart, train=False)
    np.testing.assert_allclose(found.values[0], [[-1, -1], [0, 0], [0.5, 1], [0.5, -1]])
    assert found.codes.tolist() == [[0, 2 + 4 * 1, 3 + 4 * 2, 3]]
    assert quantiser.num_codes == 12 and quantiser.width == 2
    many = 2 * np.random.default_rng(0).normal(size=(1, 2000, 2)).astype(np.float32)
    assert set(np.asarray(quantiser.apply({}, many, train=False).codes).ravel()) == set(range(12))


def check_codes_looked_up_are_the_values(subject):
    for kind, quantiser in subject.kinds.items():
        x = np.random.default_rng(0).normal(size=(2, 50, 3)).astype(np.float32)
        variables = {}
        if kind == "vq":
            table = np.random.default_rng(1).normal(size=(16, 3))
            variables = by_hand(table, [1] * 16, table)
        found = quantiser.apply(variables, x, train=False)
        again = quantiser.apply(variables, found.codes, method="lookup")
        np.testing.assert_allclose(again, found.values, atol=1e-6)
        codes = np.arange(quantiser.num_codes)[None]
        if kind == "fsq":  # its values are fixed points only before the squashing
            table = np.asarray(quantiser.apply({}, codes, method="lookup"))[0]
            assert len(np.unique(table, axis=0)) == quantiser.num_codes and np.abs(table).max() == 1


def check_halves_make_the_whole(subject):
    """decode(encode(x)) is the prediction; and a row by itself has the codes that it has in a batch."""
    variables = subject.trained("vq")[0].variables
    codes, images = subject.halves("vq")(variables, batch()["image"])
    predicted = subject.evaluated("vq")(variables, batch())[2]
    np.testing.assert_array_equal(codes, predicted.codes)
    whole = np.clip(np.asarray(images) * 0.5 + 0.5, 0, 1)
    np.testing.assert_allclose(whole, predicted.images, atol=1e-5)
    turned = subject.halves("vq")(variables, batch()["image"][::-1])[0]
    np.testing.assert_array_equal(turned, codes[::-1])


def by_patches(grid=(2, 2), **fields):
    """A tokenizer whose places know nothing of each other, and its variables."""
    parts = {"features": (4,), "patch": 4, "num_blocks": 0, "norm": NoNorm()}
    model = ImageTokenizer(
        encoder=PictureEncoder(**parts),
        decoder=PictureDecoder(**parts),
        quantiser=FiniteScalarQuantiser(levels=(9, 9, 9)),
        grid=grid,
        **fields,
    )
    rows, columns = grid
    zeros = {"image": jnp.zeros((1, 4 * rows, 4 * columns, 3)), "valid": jnp.ones(1, bool)}
    return model, model.init(jax.random.key(0), zeros, train=False)


def check_codes_stand_row_by_row(subject):
    """A change in the top right corner of a picture changes the second of 2 x 2 codes' surroundings, and where patches do
    not overlap only it."""
    model, variables = by_patches()
    image = batch(rows=1)["image"]
    other = image.copy()
    other[:, :4, 4:] *= -1
    codes = [model.apply(variables, x, method="encode")[0] for x in (image, other)]
    assert (codes[0] != codes[1]).tolist() == [False, True, False, False]


def check_columns_are_the_same_codes_in_another_order(subject):
    """Of 2 x 3 places: a b c d e f becomes a d b e c f, and the pictures that come back are the same."""
    model, variables = by_patches(grid=(2, 3))
    variables = model_zoo.filled(variables)  # at the start all pictures are grey
    turned = model.clone(by_columns=True)
    image = np.random.default_rng(0).uniform(-1, 1, (2, 8, 12, 3)).astype(np.float32)

    @compiled
    def there_and_back(variables, image):
        codes = [each.apply(variables, image, method="encode") for each in (model, turned)]
        pictures = [
            each.apply(variables, found, method="decode")
            for each, found in zip((model, turned), codes)
        ]
        return *codes, *pictures

    codes, columns, pictures, back = there_and_back(variables, image)
    np.testing.assert_array_equal(columns, codes[:, [0, 3, 1, 4, 2, 5]])
    assert len(np.unique(codes[0])) == 6
    assert np.std(pictures) > 0.1
    np.testing.assert_array_equal(back, pictures)


def check_a_tokenizer_overfits_eight_pictures(subject):
    for kind in subject.kinds:
        _, losses = subject.trained(kind)
        assert losses[-1] < 0.8 * losses[1], (kind, losses)


def check_every_parameter_has_a_gradient(subject):
    for kind in subject.kinds:
        before, after = subject.start(kind).params, subject.trained(kind)[0].params
        for path, moved in jax.tree_util.tree_leaves_with_path(
            jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
        ):
            assert moved, (kind, jax.tree_util.keystr(path))


def check_the_loss_is_the_mean_over_valid_pictures(subject):
    variables = subject.trained("vq")[0].variables
    given = batch()
    given["valid"] = np.arange(ROWS) < 3
    loss, _, predicted = subject.evaluated("vq")(variables, given)
    codes, images = subject.halves("vq")(variables, given["image"])
    squared = np.square(np.asarray(images) - given["image"]).mean((1, 2, 3))
    # What is committed to is minimised beside it.
    assert float(loss) > squared[:3].mean()
    given["image"][3:] = 100.0
    again, _, _ = subject.evaluated("vq")(variables, given)
    np.testing.assert_allclose(again, loss, rtol=1e-5)


def check_a_perceptual_loss_reaches_the_tokenizer_and_not_the_network(subject):
    encoder = SmallCnn(features=(4,), norm=NoNorm())
    perceptual = Perceptual(encoder=encoder)
    x, y = batch(0)["image"], batch(1)["image"]
    np.testing.assert_array_equal(perceptual(x, x), np.zeros(ROWS))
    gradients = jax.grad(lambda x, y: perceptual(x, y).sum(), argnums=(0, 1))(x, y)
    assert not gradients[0].any() and gradients[1].any()
    variables = encoder.init(jax.random.key(0), x[:1], train=False)
    gold, ours = (encoder.apply(variables, each, train=False).values for each in (x, y))
    np.testing.assert_allclose(perceptual(x, y), ((gold - ours) ** 2).mean((1, 2)), rtol=1e-5)
    plain = dataclasses.replace(subject.task, perceptual=perceptual, perceptual_weight=2.0)
    variables = subject.start("vq").variables

    def loss(task):
        return task.loss(subject.model("vq"), variables, batch(), rngs={}, train=False)

    (whole, aux), (without, _) = compiled(lambda: (loss(plain), loss(subject.task)))()
    added = aux.metrics["perceptual"].value()
    assert added > 0
    np.testing.assert_allclose(whole, without + 2.0 * added, rtol=1e-5)


# ---- the numbers


def check_psnr_by_hand(subject):
    """One number off by 255 in 12, and by 2 everywhere: 10 log10 12, and 20 log10 (255 / 2)."""
    black = np.zeros((2, 2, 3), np.uint8)
    one = black.copy()
    one[0, 1, 2] = 255
    stats = [Psnr().stats(one, (black,)), Psnr().stats(black + np.uint8(2), (black,))]
    expected = [10 * math.log10(12), 20 * math.log10(127.5)]
    for each, number in zip(stats, expected):
        assert math.isclose(Psnr().result(each)["psnr"], number)
    assert math.isclose(Psnr().result(total(stats))["psnr"], sum(expected) / 2)
    assert math.isfinite(Psnr().result(Psnr().stats(one, (one,)))["psnr"])


def check_ssim_by_hand(subject):
    """The paper's formula window by window, and flat pictures, of which only the luminance differs."""
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, (13, 14, 2)).astype(np.uint8)
    two = np.clip(one + rng.normal(size=one.shape) * 40, 0, 255).astype(np.uint8)
    places = np.arange(-5, 6)
    window = np.exp(-(places[:, None] ** 2 + places**2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for i, j, c in itertools.product(range(3), range(4), range(2)):
        x, y = (p[i : i + 11, j : j + 11, c].astype(float) for p in (one, two))
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
        cov = (window * (x - mx) * (y - my)).sum()
        c1, c2 = 2.55**2, 7.65**2
        found.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    ours = Ssim().result(Ssim().stats(two, (one,)))["ssim"]
    np.testing.assert_allclose(ours, 100 * np.mean(found), rtol=1e-9)
    # scikit-image 0.26 says the same of these two, with the paper's window.
    np.testing.assert_allclose(ours, 91.02653898684898, rtol=1e-12)
    psnr = Psnr().result(Psnr().stats(two, (one,)))["psnr"]
    np.testing.assert_allclose(psnr, 16.719572021178884, rtol=1e-12)
    assert math.isclose(Ssim().result(Ssim().stats(one, (one,)))["ssim"], 100.0)
    flat = [np.full((11, 11, 3), value, np.uint8) for value in (100, 150)]
    expected = 100 * (2 * 15000 + 2.55**2) / (10000 + 22500 + 2.55**2)
    assert math.isclose(Ssim().result(Ssim().stats(*flat[:1], flat[1:]))["ssim"], expected)


def check_use_of_codes_by_hand(subject):
    """Four codes of eight, alike: half are used and the perplexity is 4; all one: an eighth, and 1."""
    metric = CodeUse(num_codes=8)
    stats = [metric.stats(np.array([0, 3])), metric.stats(np.array([[5], [7]]))]
    found = metric.result(total(stats))
    assert found["codes_used"] == 50.0 and math.isclose(found["code_perplexity"], 4.0)
    assert metric.result(total(stats[::-1])) == found
    collapsed = metric.result(metric.stats(np.full(100, 2)))
    assert collapsed == {"codes_used": 12.5, "code_perplexity": 1.0}


def check_what_is_reported_of_a_run_notices_a_collapsed_codebook(subject):
    """Numbers of predictions, valid rows only."""
    task = dataclasses.replace(subject.task, metrics=(CodeUse(num_codes=16), Psnr()))
    given = batch()
    given["valid"] = np.arange(ROWS) < 3
    variables = subject.trained("vq")[0].variables
    predictions = subject.evaluated("vq")(variables, given)[2]
    collapsed = dataclasses.replace(
        predictions, codes=jnp.where(given["valid"][:, None], 4, predictions.codes)
    )
    for made, perplexity in ((predictions, None), (collapsed, 1.0)):
        stats = task.score(jax.device_get(made), given, {})
        numbers = task.report({name: total([value]) for name, value in stats.items()})
        used = np.unique(np.asarray(made.codes)[:3])
        assert numbers["codes_used"] == 100 * len(used) / 16
        assert perplexity is None or numbers["code_perplexity"] == perplexity
    before = np.round((given["image"][:3] * 0.5 + 0.5) * 255)
    after = np.round(np.asarray(predictions.images)[:3] * 255)
    each = [10 * math.log10(255**2 / ((a - b) ** 2).mean()) for a, b in zip(before, after)]
    np.testing.assert_allclose(numbers["psnr"], np.mean(each), rtol=1e-5)


CHECKS = tuple(value for name, value in list(globals().items()) if name.startswith("check_"))
# What the bugs are tried on: those that compile little.
QUICK = (
    check_the_codebook_follows_its_vectors_by_hand,
    check_rows_that_are_not_valid_leave_no_trace_in_the_codebook,
    check_dead_codes_begin_at_vectors_of_the_batch_far_from_any_code,
    check_restarts_differ_from_update_to_update_and_not_from_run_to_run,
    check_an_evaluation_leaves_the_codebook_alone,
    check_the_gradient_passes_straight_through,
    check_rounding_by_hand,
    check_codes_looked_up_are_the_values,
    check_codes_stand_row_by_row,
    check_columns_are_the_same_codes_in_another_order,
    check_a_perceptual_loss_reaches_the_tokenizer_and_not_the_network,
    check_psnr_by_hand,
    check_ssim_by_hand,
    check_use_of_codes_by_hand,
)
