"""How this process gets its memory from the system."""

import ctypes
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Tells glibc's malloc to keep large freed blocks for the next request; False where there is no glibc.

    XLA on a CPU asks for the buffers of every step anew. By default each large one is mapped and unmapped, and its
    pages are filled with zeros again and again: a captioner's step (init-inject, batch 128, 2 cores) takes 188 ms
    so, and 127 ms with this. Call it before JAX starts its threads.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # One arena: those of other threads could not grow beyond 64 MB without mapping.
    settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1))
    return all(mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in settings)
