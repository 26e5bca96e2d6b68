"""One pure step under jit, pmap and meshes, on fake devices: the same training everywhere."""

import pytest

from tests.fake_devices import printed_by


@pytest.fixture(scope="module")
def found(compilation_cache):
    """What devices_main.py prints."""
    return printed_by(
        "tests.train.devices_main",
        JAX_COMPILATION_CACHE_DIR=compilation_cache,
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )


def test_every_layout_trains_alike_over_fifty_steps(found):
    assert found["devices"] == 8
    assert len(found["layouts"]) == 8 + 3 + 3
    for layout, differences in found["layouts"].items():
        for name, difference in differences.items():
            assert difference <= 1e-5, (layout, name, difference)


def test_the_same_layout_repeated_is_bit_equal(found):
    repeated = {name: value for name, value in found.items() if "bit-equal" in name}
    assert len(repeated) == 3 and all(repeated.values()), repeated


@pytest.mark.parametrize("moment", ["born", "after a step"])
def test_parameters_moments_and_averages_lie_where_the_rules_say(found, moment):
    sharded, shapes = found[f"sharded, {moment}"], found["shapes"]
    wanted = {n for n in shapes if n.endswith(("kernel", "embedding"))}
    assert set(sharded) == wanted and len(wanted) == 3 * 4  # params, mu, nu, ema
    for name, shape in sharded.items():
        assert shape == [shapes[name][0] // 4, *shapes[name][1:]]


def test_a_run_moves_between_device_counts_and_strategies(found):
    assert found["chain losses"] <= 1e-5
    assert found["chain params"] <= 1e-5


def test_evaluation_is_the_same_on_any_number_of_devices(found):
    assert all(found["evaluation ids"].values()) and len(found["evaluation ids"]) == 4
    assert found["evaluation predictions equal"]
    assert found["evaluation losses"] <= 1e-6


@pytest.mark.parametrize("layout", ["data 8", "pmap 8"])
def test_nan_on_one_device_stops_all(found, layout):
    assert found[f"nan on one shard, {layout}"]


@pytest.mark.parametrize(
    "error, words",
    [
        ("rows", "batch_size 12 is split over 8 devices, which does not divide it"),
        ("axis", "(8, 12)"),
        ("spec", "more axes"),
        ("mesh axis", "names the mesh axis 'fsdp'"),
        ("mesh", "does not fit 8 devices"),
    ],
)
def test_what_does_not_divide_is_refused_in_words(found, error, words):
    if error == "axis":
        words = "devices, which does not divide 12"
    assert words in found["errors"][error]
