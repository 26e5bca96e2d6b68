"""Compilation is what these tests cost, so compiled functions are kept between runs of the loop."""

import os

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """The folder of compiled functions, also for the processes that tests start."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if not folder:
        folder = str(tmp_path_factory.mktemp("compiled"))
        jax.config.update("jax_compilation_cache_dir", folder)
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield folder
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
