"""The token that a text begins with, where the file has none of its own for it: what is trained is what is exported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.pretrained import folders, published
from vlm_jax.pretrained import weights
from vlm_jax.pretrained.mapping import export, named, unnamed
from vlm_jax.types import BOS, EOS, PAD

WORDS = "decoder/embedding/words/table"
TARGET = np.array([[BOS, 5, 6, EOS, PAD]])


def said(model, variables, family):
    """Logits of the target, given a picture or a text."""
    (example,) = family.example
    batch = {"target": jnp.asarray(TARGET)}
    if "image" in example:
        batch["image"] = jnp.asarray(published.picture(example["image"].shape))
    if "text" in example:
        batch["text"] = jnp.array([[7, 8, EOS]])
    apply = jax.jit(lambda variables: model.apply(variables, batch, train=False))
    return np.asarray(apply(variables))[TARGET != PAD]


@pytest.mark.parametrize("folder, like", [(folders.captioner, EOS), (folders.translator, PAD)])
def test_a_trained_first_token_comes_back_from_the_exported_folder(tmp_path, folder, like):
    """GPT-2's is its last token too, one row for both; T5's is padding, whose row nothing else reads."""
    found = weights.load(folder(tmp_path / "published"))
    leaves = {name: np.array(leaf) for name, leaf in named(found.variables).items()}
    np.testing.assert_array_equal(leaves[WORDS][BOS], leaves[WORDS][like])
    leaves[WORDS][[BOS, like] if like == EOS else [BOS]] += 1.0
    trained = unnamed(leaves)
    before, after = (said(found.model, v, found.family) for v in (found.variables, trained))
    assert np.abs(after - before).max() > 0.1
    back = export(trained, found.family.places, tmp_path / "back", like=found.folder)
    again = weights.load(back.path)
    scored = after[0] > -1e8  # what the file has a token for
    ours, theirs = said(again.model, again.variables, again.family)[:, scored], after[:, scored]
    words = (
        np.arange(len(after[0]))[scored] != PAD
    )  # a tied PAD is scored by its row, and never right
    np.testing.assert_allclose(ours[:, words], theirs[:, words], rtol=1e-5, atol=1e-5)


def test_of_gpt_2_the_row_of_bos_is_not_read(tmp_path):
    """So training moves the one row that the file has, by what follows BOS and by what ends a text."""
    found = weights.load(folders.captioner(tmp_path / "published"))
    leaves = {name: np.array(leaf) for name, leaf in named(found.variables).items()}
    leaves[WORDS][BOS] += 1.0
    scored = np.arange(len(leaves[WORDS])) != BOS
    before, after = (
        said(found.model, v, found.family)[:, scored] for v in (found.variables, unnamed(leaves))
    )
    np.testing.assert_array_equal(before, after)


def test_a_model_of_texts_without_its_tokenizer_is_loaded_with_a_warning(tmp_path):
    path = folders.captioner(tmp_path / "published")
    (tmp_path / "published" / "tokenizer.json").unlink()
    with pytest.warns(UserWarning, match="has no tokenizer.json: its tokens keep their order"):
        assert weights.load(path).tokenizer is None
