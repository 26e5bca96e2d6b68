"""How the tests compile: quickly, not for speed. To be imported before JAX is; what the environment has already is left.

Compilation is what the tests cost, of the models and steps that they run as of single operations.
"""

import os

# The older code generator of XLA for CPUs takes a third of the time, and a function in one piece instead of up to 32
# seven tenths of that. The numbers are the same but for the last bits.
FLAGS = ("--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
# XLA's optimisations take longer than a few steps of a tiny model; JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests with them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Which line of Python an operation comes from is written into every module, and read by nobody; so is the path of its
# Flax module, which takes a fifth of the time of a small model's gradient.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
os.environ.setdefault("FLAX_PROFILE", "0")
