import functools
import hashlib
import json
import operator
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from tests.pretrained import published
from vlm_jax import config
from vlm_jax.pretrained import weights
from vlm_jax.pretrained.folder import Folder
from vlm_jax.pretrained.mapping import named
from vlm_jax.pretrained.settings import Settings
from vlm_jax.pretrained.weights import PublishedWeights

VIT = published.Stored("vit_a")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return published.write(tmp_path_factory.mktemp("published") / "vit", VIT.config)


@pytest.fixture(scope="module")
def found(folder):
    return weights.load(folder.path)


def drawn_like(tree):
    """Arrays of these shapes, as an experiment would have drawn them."""
    return jax.tree.map(lambda x: jnp.full(x.shape, 9.0, x.dtype), dict(tree))


def test_settings_that_say_nothing_to_us_are_listed(tmp_path):
    given = {
        **VIT.config,
        "initializer_range": 0.02,
        "custom_kernel": "/bin/sh",
        "encoder_stride": 1,
    }
    given["vision_config"] = {"path": "x"}
    read = weights.read(published.write(tmp_path / "vit", given))[1]
    assert read == ("custom_kernel", "encoder_stride", "initializer_range", "vision_config")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "evil"}, "hidden_act is 'evil', expected one of gelu, .*quick_gelu"),
        ({"hidden_size": "24"}, "hidden_size is '24', expected a whole number"),
        ({"hidden_size": True}, "hidden_size is True, expected a whole number"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps is nan, expected a number"),
        ({"image_size": [1, 2, 3]}, "image_size is .*expected one size"),
        ({"qkv_bias": False}, "qkv_bias is False, expected True, the only one that we have"),
        ({"id2label": 3}, "id2label is 3, expected a mapping"),
    ],
)
def test_a_setting_that_we_do_not_have_is_an_error(change, message):
    with pytest.raises(ValueError, match=message):
        published.family_of({**VIT.config, **change})


STRANGE = (0, -1, 3, 10**9, 2**63, 0.0, 1e300, float("nan"), "x", "", None, True, [], [0], {"a": 1})


def _keys(config, before=()):
    for key, value in config.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from _keys(value, (*before, key))


@pytest.mark.parametrize("name", ["vit_a", "mobilenet_a", "siglip2_b"])
def test_whatever_stands_in_a_configuration_is_read_or_refused_at_once(name, tmp_path):
    config = published.Stored(name).config
    folder = published.write(tmp_path / name, config)
    counts = {"read": 0, "refused": 0}
    for path in _keys(config):
        for value in STRANGE:
            changed = json.loads(json.dumps(config))
            place = functools.reduce(dict.__getitem__, path[:-1], changed)
            place[path[-1]] = value
            (tmp_path / name / "config.json").write_text(json.dumps(changed))
            start = time.process_time()
            try:
                weights.read(Folder(folder.path))
                counts["read"] += 1
            except ValueError as error:
                counts["refused"] += 1
                assert len(str(error)) < 2000
            assert time.process_time() - start < 2, (path, value)
    assert min(counts.values()) > 20, counts


@pytest.mark.parametrize("name", ["vit_a", "llama_a"])
def test_settings_that_no_model_can_have_are_the_files_fault(name, tmp_path):
    config = published.Stored(name).config | {"num_attention_heads": 0}
    folder = published.write(tmp_path, published.Stored(name).config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="num_attention_heads|settings that do not go together"):
        weights.load(folder.path)


def test_rows_of_a_table_follow_the_tokenizer_and_the_rest_comes_last():
    class Tokenizer:
        def rows_in_file(self):
            return (3, None, 0, 1)

        def special_in_file(self):
            return frozenset()

    assert Settings({}, Tokenizer()).token_rows(6).ids == (3, None, 0, 1, 2, 4, 5)
    assert Settings({}).token_rows(3).ids == (0, 1, 2)
    with pytest.raises(ValueError, match="the tokenizer has id 3, the table 3 rows"):
        Settings({}, Tokenizer()).token_rows(3)


def test_a_special_token_without_a_vector_is_never_written(tmp_path):
    # Gemma 3 of a billion parameters: <image_soft_token> has an id behind the table's last
    tokenizer = _words(tmp_path, {"<pad>": 0, "<bos>": 1, "<eos>": 2, "a": 3, "<image>": 4})
    rows = Settings({}, tokenizer).token_rows(4)
    assert rows.ids == (0, 1, 2, None, 3, None) and rows.unscored == (3, 5)
    with pytest.raises(ValueError, match="the tokenizer has id 4, the table 3 rows"):
        Settings({}, tokenizer).token_rows(3)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (0, None, None, None)),
        ({"tokenizer_config.json": {"eos_token": "end", "bos_token": {"content": "a"}}}, (0, 3, 4, None)),
        ({"special_tokens_map.json": {"eos_token": "end", "unk_token": "a"}}, (0, None, 4, 3)),
        # GPT-2: one token is the beginning and the end, which is what it is
        ({"tokenizer_config.json": {"bos_token": "end", "eos_token": "end"}}, (0, None, 4, None)),
        ({"tokenizer_config.json": {"eos_token": "lost", "bos_token": None}}, (0, None, None, None)),
    ],
)  # fmt: skip
def test_the_files_beside_a_tokenizer_say_which_tokens_begin_and_end(tmp_path, files, expected):
    _words(tmp_path, {"<pad>": 0, "b": 1, "c": 2, "a": 3, "end": 4})
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert Folder(str(tmp_path)).tokenizer().rows_in_file()[:4] == expected


def _words(path, vocabulary):
    tokenizer = Tokenizer(WordLevel(vocabulary))
    tokenizer.add_special_tokens([word for word in vocabulary if word.startswith("<")])
    tokenizer.save(str(path / "tokenizer.json"))
    return Folder(str(path)).tokenizer()


@pytest.mark.parametrize(
    ("name", "change", "field", "expected"),
    [
        ("gemma_2a", {"attn_logit_softcapping": None}, "decoder.form.soft_cap", None),
        ("gemma_2a", {"final_logit_softcapping": ...}, "decoder.form.final_soft_cap", 30.0),
        ("gemma_2a", {"num_key_value_heads": ...}, "decoder.num_kv_heads", 4),
        ("gemma_2a", {"hidden_size": ..., "num_hidden_layers": ...}, "decoder.num_layers", 26),
        (
            "idefics3_b",
            {"vision_config": {"hidden_size": 8}},
            "image_encoder.encoder.num_heads",
            16,
        ),
        (
            "siglip_a",
            {"text_config": {"vocab_size": 250_000, "hidden_size": 24}},
            "text_encoder.filled_with",
            1,
        ),
        (
            "siglip_a",
            {"text_config": {"vocab_size": 256_000, "hidden_size": 24}},
            "text_encoder.filled_with",
            0,
        ),
    ],
)
def test_what_a_file_leaves_out_is_what_the_reference_takes_it_for(name, change, field, expected):
    given = {**published.Stored(name).config, **change}
    given = {key: value for key, value in given.items() if value is not ...}
    found = operator.attrgetter(field)(published.family_of(given).model)
    assert found == expected


def test_a_picture_that_is_no_multiple_of_the_patch_loses_the_rest():
    # SigLIP of 384 pixels in patches of 14
    given = published.Stored("siglip_c").config
    given = {**given, "image_size": 14, "patch_size": 4}
    family = published.family_of(given)
    shape = (1, 14, 14, 3)
    found = jax.eval_shape(
        lambda image: family.model.init_with_output(jax.random.key(0), image, train=False)[0],
        jax.ShapeDtypeStruct(shape, jnp.float32),
    )
    assert found.values.shape[1] == 9


def test_tables_that_nothing_uses_are_left_in_old_files_of_t5(tmp_path):
    name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    given = published.Stored("t5_a").config
    weights.load(published.write(tmp_path, given, {name: np.zeros((8, 4), np.float32)}).path)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("clip_b", "vision_model."),
        ("siglip_c", "vision_model."),
        ("llava_a", "vision_tower.vision_model."),
        ("paligemma_a", "vision_tower.vision_model."),
    ],
)
def test_files_that_leave_a_level_of_names_out_are_read(tmp_path, name, level):
    given = published.Stored(name).config
    opened = published.write(tmp_path, given)
    short = level.removesuffix("vision_model.")
    moved = {n: None for n in opened.names() if n.startswith(level)}
    moved |= {n.replace(level, short, 1): opened.tensor(n) for n in moved}
    found = weights.load(published.write(tmp_path / "flat", given, moved).path)
    expected = weights.load(str(tmp_path)).variables
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected)


def test_weights_fill_a_part_of_a_model_and_leave_the_rest_alone(folder, found):
    encoder = {k: v for k, v in found.variables["params"].items() if k != "head"}
    decoder = {"kernel": jnp.ones(2)}
    drawn = {"image_encoder": drawn_like(encoder), "decoder": decoder}
    init = PublishedWeights(folder=folder.path, scope="image_encoder")
    filled = init(drawn)
    assert filled["decoder"]["kernel"] is decoder["kernel"]
    jax.tree.map(np.testing.assert_array_equal, dict(filled["image_encoder"]), encoder)
    whole = init({"params": drawn, "cache": {"n": jnp.zeros(3)}})
    assert jax.tree.structure(whole["params"]) == jax.tree.structure(drawn)
    assert init.collections({}) == {}
    with pytest.raises(ValueError, match=r"scope='encoder' names no.*decoder.*image_encoder"):
        PublishedWeights(folder=folder.path, scope="encoder")(drawn)


def test_shapes_alone_are_enough_as_for_encoded_features(folder, found):
    filled = PublishedWeights(folder=folder.path)(weights.shapes(found.family))
    jax.tree.map(np.testing.assert_array_equal, filled, found.variables)


def test_a_fresh_head_keeps_what_was_drawn(folder, found):
    drawn = drawn_like(found.variables["params"])
    drawn["head"] = {"kernel": jnp.full((24, 11), 9.0), "bias": jnp.full(11, 9.0)}
    with pytest.raises(ValueError, match=r"head/bias: file \(5,\), model \(11,\)"):
        PublishedWeights(folder=folder.path)(drawn)
    filled = PublishedWeights(folder=folder.path, fresh=("^head/",))(drawn)
    assert (filled["head"]["kernel"] == 9).all() and (filled["norm"]["scale"] != 9).all()


def test_a_fresh_head_is_looked_for_among_the_parameters_alone(tmp_path):
    given = published.Stored("resnet_a").config
    opened = published.write(tmp_path, given)
    drawn = drawn_like(weights.shapes(weights.read(opened)[0]))
    init = PublishedWeights(folder=opened.path, fresh=("^head/",))
    params, statistics = drawn.pop("params"), drawn
    assert np.all(np.asarray(init(params)["head"]["kernel"]) == 9)
    assert "batch_stats" in init.collections(statistics)
    with pytest.raises(ValueError, match="finds no parameter"):
        PublishedWeights(folder=opened.path, fresh=("^hat/",))(params)


def test_parameters_come_in_the_dtype_and_sharding_that_is_asked_for(folder, found):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    asked = []

    def sharding(name, leaf):
        asked.append(name)
        return device

    half = weights.load(folder.path, dtype=jnp.bfloat16, sharding=sharding)
    leaves = named(half.variables)
    assert set(asked) == set(leaves)
    assert all(x.dtype == jnp.bfloat16 and x.sharding == device for x in leaves.values())
    for name, value in named(found.variables).items():
        np.testing.assert_array_equal(leaves[name], value.astype(jnp.bfloat16))


def test_a_number_that_has_changed_is_seen_by_the_sum_alone(tmp_path):
    folder = published.write(tmp_path / "vit", VIT.config)
    file = tmp_path / "vit" / "model.safetensors"
    sums = (hashlib.sha256(file.read_bytes()).hexdigest(),)
    shapes = weights.shapes(published.family_of(VIT.config))
    PublishedWeights(folder=folder.path, sha256=sums)(shapes)
    data = bytearray(file.read_bytes())
    data[-5] ^= 4
    file.write_bytes(data)
    PublishedWeights(folder=folder.path)(shapes)
    with pytest.raises(ValueError, match=f"sha256 {sums[0]}; found model.safetensors"):
        PublishedWeights(folder=folder.path, sha256=sums)(shapes)


def test_the_weights_of_an_experiment_survive_its_file(folder):
    init = PublishedWeights(folder=folder.path, scope="image_encoder", fresh=("^head/",))
    assert config.from_json(config.to_json(init)) == init
    model = published.family_of(VIT.config).model
    assert config.from_json(config.to_json(model)) == model


def test_a_part_of_a_published_model_fills_a_part_of_ours(tmp_path):
    folder = published.write(tmp_path / "clip", published.Stored("clip_a").config)
    found = weights.load(folder.path)
    tower = found.variables["params"]["image_encoder"]
    drawn = {"vision": drawn_like(tower), "decoder": {"kernel": jnp.ones(2)}}
    init = PublishedWeights(folder=folder.path, part="image_encoder", scope="vision")
    filled = init(drawn)
    jax.tree.map(np.testing.assert_array_equal, dict(filled["vision"]), dict(tower))
    assert filled["decoder"]["kernel"] is drawn["decoder"]["kernel"]
    with pytest.raises(ValueError, match="part='vision_encoder' names nothing.*image_encoder"):
        PublishedWeights(folder=folder.path, part="vision_encoder", scope="vision")(drawn)


@pytest.mark.parametrize("name", ["resnet_a"])
def test_running_statistics_come_with_the_parameters_or_after_them(name, tmp_path):
    folder = published.write(tmp_path / "m", published.Stored(name).config)
    found = weights.load(folder.path)
    drawn = {key: {"encoder": drawn_like(tree)} for key, tree in found.variables.items()}
    init = PublishedWeights(folder=folder.path, scope="encoder")
    params = init(drawn["params"])
    rest = init.collections({"batch_stats": drawn["batch_stats"]})
    whole = init(drawn)
    for key, tree in {"params": params, **rest}.items():
        jax.tree.map(np.testing.assert_array_equal, tree["encoder"], dict(found.variables[key]))
        jax.tree.map(np.testing.assert_array_equal, tree, whole[key])
