"""Every family computes what transformers computes: logits and hidden states, block by block, to 1e-4 in float32."""

import functools

import numpy as np
import pytest

from tests.pretrained import published
from vlm_jax.pretrained.mapping import export

BOUND = 1e-4
STORED = sorted(folder.name for folder in published.STORED.iterdir())


loaded = functools.cache(published.loaded)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("published")


@pytest.mark.parametrize("name", STORED)
def test_what_the_reference_computes_comes_out_block_by_block(name, folder):
    given = published.Stored(name)
    found = loaded(name, folder)
    differences = published.compare(given, found)
    print(name, {key: f"{value:.1e}" for key, value in differences.items()})
    assert set(differences) == {key for key in given.arrays if key not in published.INPUTS}
    assert max(differences.values()) < BOUND


@pytest.mark.parametrize("name", STORED)
def test_what_is_exported_is_the_file_that_was_read(name, folder, tmp_path):
    found = loaded(name, folder)
    back = export(found.variables, found.family.places, tmp_path / "back", like=found.folder)
    left = published.unused(found.folder.config)
    assert set(back.names()) == set(found.folder.names()) - set(left)
    for tensor in back.names():
        np.testing.assert_array_equal(back.tensor(tensor), found.folder.tensor(tensor))
    assert {**back.config, "dtype": None} == {**found.folder.config, "dtype": None}


@pytest.mark.parametrize("name", STORED)
def test_the_reference_reads_what_is_exported_and_computes_the_same(name, folder, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: the stored outputs stand for it")
    pytest.importorskip("transformers", reason="transformers is not installed")
    found, given = loaded(name, folder), published.Stored(name)
    path = tmp_path / "back"
    export(found.variables, found.family.places, path, like=found.folder)
    theirs = published.reference(path, given, left=published.unused(given.config))
    for key, array in given.arrays.items():
        np.testing.assert_allclose(theirs.get(key, array), array, atol=BOUND, err_msg=key)
