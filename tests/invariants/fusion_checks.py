"""What must hold of every fusion. Each check takes a `Fusions`: all of them, each compiled once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.decoding.toys import compiled
from tests.fusion import by_hand
from tests.fusion.by_hand import IMAGE, TEXT
from vlm_jax.fusion import bilinear
from vlm_jax.fusion.film import coordinates
from vlm_jax.train.state import named_leaves
from vlm_jax.types import Features


class Fusions:
    """What each fusion of by_hand.ALL gives, sows and passes back."""

    def __init__(self):
        self.all = by_hand.ALL
        self.variables = {name: by_hand.variables_of(f) for name, f in self.all.items()}
        self._compiled = {}

    @functools.cached_property
    def plain(self):
        """name -> (the result for IMAGE and TEXT, what was sown)"""
        return {name: self(name) for name in self.all}

    def __call__(self, name, image=IMAGE, text=TEXT):
        _, (found, sown) = self._run(name, image, text)
        return found, named_leaves(sown.get("intermediates", {}))

    def gradients(self, name, image=IMAGE, text=TEXT):
        """Of a sum of the result's real places with weights, for (parameters, image, text)."""
        return self._run(name, image, text)[0]

    def _run(self, name, image, text):
        if name not in self._compiled:
            self._compiled[name] = compiled(functools.partial(_run, self.all[name]))
        return jax.device_get(self._compiled[name](self.variables[name], image, text))


def _run(fusion, variables, image, text):
    variables = dict(variables)
    params = variables.pop("params", {})

    def objective(params, image_values, text_values):
        given = image.replace(values=image_values), text.replace(values=text_values)
        found, sown = fusion.apply(
            {"params": params, **variables}, *given, train=False, mutable=["intermediates"]
        )
        weights = np.random.default_rng(0).normal(size=found.values.shape[1:])
        total = jnp.where(found.mask[..., None], found.values * weights, 0).sum()
        return total, (found, sown)

    return jax.grad(objective, argnums=(0, 1, 2), has_aux=True)(params, image.values, text.values)


def check_values_are_those_of_the_papers(w):
    for name in w.all:
        found, _ = w.plain[name]
        for row in range(2):
            np.testing.assert_allclose(
                found.values[row][found.mask[row]],
                by_hand.expected(name, w.variables[name], row),
                rtol=1e-3,
                atol=1e-4,
                err_msg=name,
            )


def check_what_lies_under_padding_changes_nothing(w):
    """Not even what is sown, whose weights of padding are 0."""
    for name in w.all:
        found, sown = w.plain[name]
        other, other_sown = w(name, _scribbled(IMAGE), _scribbled(TEXT))
        np.testing.assert_array_equal(found.mask, other.mask, err_msg=name)
        np.testing.assert_array_equal(
            found.values[found.mask], other.values[found.mask], err_msg=name
        )
        for path, leaf in sown.items():
            if "attention" in path:
                np.testing.assert_array_equal(leaf, other_sown[path], err_msg=f"{name} {path}")


def check_the_places_looked_at_are_real(w):
    """Weights over places, or words, add up to 1 and are 0 at padding."""
    for name in w.all:
        for path, weights in w.plain[name][1].items():
            last = path.split("/")[-2 if path[-1].isdigit() else -1]
            if "attention" not in last:
                continue
            np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5, err_msg=f"{name} {path}")
            seen = TEXT if last == "text_attention" else IMAGE
            if weights.ndim == 2:
                assert not weights[~seen.mask].any(), (name, path)
            elif weights.shape[-1] >= IMAGE.mask.shape[1]:
                assert not weights[0, ..., 5].any(), (name, path)


def check_rows_do_not_mix(w):
    """A row is the same wherever it stands in the batch, beside whatever."""
    turned = [jax.tree.map(lambda x: x[::-1], features) for features in (IMAGE, TEXT)]
    scale = np.array([1.0, -3.0], np.float32)[:, None, None]
    beside = [f.replace(values=f.values * scale) for f in (IMAGE, TEXT)]
    for name in w.all:
        found, _ = w.plain[name]
        options = dict(rtol=1e-5, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(found.values[::-1], w(name, *turned)[0].values, **options)
        np.testing.assert_allclose(found.values[0], w(name, *beside)[0].values[0], **options)


def check_every_place_and_every_word_matters(w):
    for name in w.all:
        before = _mean(w.plain[name][0])
        for place in range(5):
            after = _mean(w(name, image=_changed(IMAGE, place))[0])
            assert _differs(before, after), f"{name}: place {place} is not seen"
        # Stacked attention reads the last word's state.
        for word in (2,) if name == "stacked_attention" else (1, 2):
            after = _mean(w(name, text=_changed(TEXT, word))[0])
            assert _differs(before[:1], after[:1]), f"{name}: word {word} is not read"


def check_gradients_reach_everything(w):
    for name in w.all:
        params, image, text = w.gradients(name)
        for path, gradient in named_leaves(params).items():
            assert np.isfinite(gradient).all(), (name, path)
            # A softmax does not notice what is added to all its scores, as a key's bias is.
            assert (gradient != 0).any() or path.endswith("key/bias"), (name, path)
        assert image[IMAGE.mask].any(-1).all(), name
        assert text.any(), name
        for gradient, features in ((image, IMAGE), (text, TEXT)):
            assert not gradient[~features.mask].any(), f"{name}: padding"


def check_what_is_all_padding_is_finite(w):
    for name in w.all:
        for image, text in ((IMAGE, _nothing(TEXT)), (_nothing(IMAGE), TEXT)):
            assert np.isfinite(w(name, image, text)[0].values).all(), name
            for gradient in jax.tree.leaves(w.gradients(name, image, text)):
                assert np.isfinite(gradient).all(), name


def check_one_alone_is_itself(w):
    for fusion in w.all.values():
        assert fusion.apply({}, IMAGE, None, train=False) is IMAGE
        assert fusion.apply({}, None, TEXT, train=False) is TEXT


def check_image_and_text_are_hashed_apart(w):
    """With the same hash for both the sketch of x and y would be that of y and x."""
    fusion = bilinear.Mcb(width=64)
    one, other = (jax.tree.map(lambda x: x[:, 1:2], f) for f in (IMAGE, TEXT))
    other = other.replace(values=other.values[..., :3])
    there, back = (
        np.asarray(fusion.apply({}, *both, train=False).values)[:, 0]
        for both in ((one, other), (other, one))
    )
    assert np.abs(there - back).max() > 0.1


def check_the_signed_square_root_keeps_the_sign_and_has_a_slope_at_zero(w):
    x = jnp.array([-4.0, 0.0, 9.0])
    np.testing.assert_allclose(bilinear.signed_sqrt(x), [-2, 0, 3], atol=1e-5)
    slopes = jax.grad(lambda x: bilinear.signed_sqrt(x).sum())(x)
    np.testing.assert_allclose(slopes[jnp.array([0, 2])], [1 / 4, 1 / 6], rtol=1e-4)
    assert 0 < slopes[1] < np.inf


def check_a_sketch_and_its_convolution_by_hand(w):
    places, signs = np.array([2, 0, 2]), np.array([1.0, 1.0, -1.0])
    sketch = bilinear.count_sketch(jnp.array([1.0, 2.0, 3.0]), places, signs, 4)
    assert sketch.tolist() == [2, 0, -2, 0]
    round_a_circle = bilinear.circular_convolution(jnp.array([1.0, 2, 0]), jnp.array([0.0, 1, 1]))
    np.testing.assert_allclose(round_a_circle, [2, 1, 3], atol=1e-5)


def check_coordinates_go_right_and_down(w):
    found = coordinates(2, 3)
    assert found[0, :, 0].tolist() == [-1, 0, 1] and found[:, 0, 1].tolist() == [-1, 1]


CHECKS = (
    check_values_are_those_of_the_papers,
    check_what_lies_under_padding_changes_nothing,
    check_the_places_looked_at_are_real,
    check_rows_do_not_mix,
    check_every_place_and_every_word_matters,
    check_gradients_reach_everything,
    check_what_is_all_padding_is_finite,
    check_one_alone_is_itself,
    check_image_and_text_are_hashed_apart,
    check_the_signed_square_root_keeps_the_sign_and_has_a_slope_at_zero,
    check_a_sketch_and_its_convolution_by_hand,
    check_coordinates_go_right_and_down,
)


def _scribbled(features: Features) -> Features:
    return features.replace(values=np.where(features.mask[..., None], features.values, np.nan))


def _nothing(features: Features) -> Features:
    return features.replace(mask=np.zeros_like(features.mask))


def _changed(features: Features, place: int) -> Features:
    """At one place; not by the same number everywhere, which a norm would not notice."""
    values = features.values.copy()
    values[:, place] += np.arange(values.shape[-1]) - 0.5
    return features.replace(values=values)


def _mean(features: Features) -> np.ndarray:
    rows = zip(features.values, features.mask, strict=True)
    return np.stack([values[kept].mean(0) for values, kept in rows])


def _differs(x, y):
    return (np.abs(x - y).max(axis=-1) > 1e-5).all()
