"""Bugs, a few lines each, that the checks of tests/invariants must catch: `python -m tests.seeded_bugs`.

A check that never failed proves nothing. Each bug here is one that was met in the wild, switched on by patching
the project for as long as the checks of its room run. The table that is printed has a row for each bug, a column for
each check, and an X where the check failed. The project without a bug must pass all; a bug that no check notices
makes the command fail.

    python -m tests.seeded_bugs                     everything
    python -m tests.seeded_bugs sampling data       some rooms

A part's bugs are a file beside this one, which names its rooms; nothing has to be told that it is there.
"""

import sys

from tests import compilation  # noqa: F401  before JAX is imported
from tests.seeded_bugs.harness import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
