"""Eight devices on a CPU, in a process of their own: how many there are is set before JAX starts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def printed_by(module: str, **environment: str) -> Any:
    """The JSON that `python -m module` prints on eight fake devices."""
    devices = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8",
    }
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=Path(__file__).parents[1],
        env={**os.environ, **devices, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)
