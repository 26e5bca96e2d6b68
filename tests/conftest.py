"""One place for what the tests write: never the home folder, and one folder of compiled functions for all processes.

Whatever is set in the environment already is left as it is.
"""

import gc
import os
import shutil
import tempfile

from tests import compilation  # noqa: F401

_FOLDER = tempfile.mkdtemp(prefix="vlm_jax_tests_")

# Before anything imports JAX, and inherited by the processes that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(_FOLDER, "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("TFDS_DATA_DIR", os.path.join(_FOLDER, "tfds"))
os.environ.setdefault("VLM_JAX_CACHE", os.path.join(_FOLDER, "cache"))


def pytest_collection_finish(session):
    """What is imported by now stays: it need not be looked through for garbage again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def pytest_unconfigure(config):
    shutil.rmtree(_FOLDER, ignore_errors=True)
