"""The files of BERT that are there: old names, heads that nobody wants, an encoder inside a model that fills gaps."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.pretrained import published
from vlm_jax.pretrained import weights
from vlm_jax.pretrained.weights import PublishedWeights

MASKED, MODEL = published.Stored("bert_a"), published.Stored("bert_b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return published.write(tmp_path_factory.mktemp("published") / "bert", MASKED.config)


@pytest.fixture(scope="module")
def found(folder):
    return weights.load(folder.path)


def rewritten(folder, path, rename, extra=()):
    """The folder with other names; a tensor whose name becomes None is left out."""
    tensors = {rename(name): folder.tensor(name) for name in folder.names()}
    tensors.pop(None, None)
    path.mkdir()
    (path / "config.json").write_bytes((published.Path(folder.path) / "config.json").read_bytes())
    save_file({**tensors, **dict(extra)}, path / "model.safetensors")
    return str(path)


def old(name):
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    )


def equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, dict(left), dict(right))


def test_norms_named_gamma_and_beta_with_all_heads_of_pretraining(folder, found, tmp_path):
    extra = {
        "cls.seq_relationship.weight": np.ones((2, 24), np.float32),
        "cls.seq_relationship.bias": np.ones(2, np.float32),
        "bert.pooler.dense.weight": np.ones((24, 24), np.float32),
        "bert.pooler.dense.bias": np.ones(24, np.float32),
        "bert.embeddings.position_ids": np.arange(12)[None],
    }
    path = rewritten(folder, tmp_path / "old", old, extra)
    equal(weights.load(path).variables, found.variables)


@pytest.mark.parametrize("rename", [lambda name: name, old])
def test_names_without_bert_before_them(folder, found, tmp_path, rename):
    path = rewritten(folder, tmp_path / "old", lambda name: rename(name).removeprefix("bert."))
    equal(weights.load(path).variables, found.variables)


def test_the_bias_of_the_words_under_either_name_or_both(folder, found, tmp_path):
    one, other = "cls.predictions.bias", "cls.predictions.decoder.bias"
    path = rewritten(folder, tmp_path / "old", lambda name: other if name == one else name)
    equal(weights.load(path).variables, found.variables)
    bias = folder.tensor(one)
    both = rewritten(folder, tmp_path / "both", lambda name: name, {other: bias})
    equal(weights.load(both).variables, found.variables)
    differ = rewritten(folder, tmp_path / "differ", lambda name: name, {other: bias + 1})
    with pytest.raises(ValueError, match="decoder.bias differs from cls.predictions.bias"):
        weights.load(differ)


@pytest.mark.parametrize("rename", [lambda name: name, old])
def test_the_encoder_alone_of_a_file_that_fills_gaps(folder, found, tmp_path, rename):
    path = rewritten(folder, tmp_path / "file", rename)
    encoder = weights.load(path, architecture="BertModel")
    ours = {k.replace("block_", "blocks_"): v for k, v in encoder.variables["params"].items()}
    theirs = found.variables["params"]["decoder"]
    equal(ours, {name: theirs[name] for name in ours})
    assert set(theirs) - set(ours) == {"head_layer", "head_norm", "vocabulary"}
    init = PublishedWeights(folder=path, scope="text_encoder", architecture="BertModel")
    drawn = {"text_encoder": jax.tree.map(np.zeros_like, dict(encoder.variables["params"]))}
    equal(init(drawn)["text_encoder"], encoder.variables["params"])
    with pytest.raises(ValueError, match=r"architectures are \['Bert'\].*we have Bert"):
        weights.load(path, architecture="Bert")


def test_a_text_begins_with_cls_and_every_sep_ends_a_segment(tmp_path):
    from tokenizers import Tokenizer, models

    words = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdef"]
    vocabulary = {word: i for i, word in enumerate(words)}
    config = {**MODEL.config, "vocab_size": 14}
    folder = published.write(tmp_path / "bert", config)
    rust = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    rust.save(f"{folder.path}/tokenizer.json")
    table = weights.load(folder.path).variables["params"]["embedding"]["words"]["table"]
    theirs = folder.tensor("embeddings.word_embeddings.weight")
    np.testing.assert_array_equal(table, theirs[[0, 3, 4, 2, 1, *range(5, 14)]])


def test_a_decoder_with_segments_has_no_steps(found):
    decoder = found.model.decoder.clone(causal=True)
    with pytest.raises(ValueError, match="with segments has no steps"):
        decoder.bind({"params": {}}).initial_cache(None, 1, 2)
