"""One place for what the tests write: never the home folder, and one folder of compiled functions for all processes.

Whatever is set in the environment already is left as it is.
"""

import os
import shutil
import tempfile

_FOLDER = tempfile.mkdtemp(prefix="vlm_jax_tests_")

# Before anything imports JAX, and inherited by the processes that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(_FOLDER, "compiled"))
# Compilation is what the tests cost. The older code generator of XLA for CPUs takes a third of the time, and gives the same
# numbers but for the last bits.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
# XLA's optimisations take longer than a few steps of a tiny model; JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests with them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("TFDS_DATA_DIR", os.path.join(_FOLDER, "tfds"))
os.environ.setdefault("VLM_JAX_CACHE", os.path.join(_FOLDER, "cache"))


def pytest_unconfigure(config):
    shutil.rmtree(_FOLDER, ignore_errors=True)
