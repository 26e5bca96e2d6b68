"""Prints what loading a folder costs in memory, and where its tensors end: a child process of test_mapping."""

import json
import resource
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vlm_jax.pretrained.folder import Folder
from vlm_jax.pretrained.mapping import fill
from vlm_jax.pretrained.places import Linear

NUMBER, ROWS, COLUMNS = 12, 2048, 2048  # tensors of 16 MB


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({**sharded(Path(folder) / "small"), **memory(Path(folder) / "large")}))
    return 0


def sharded(path: Path) -> dict:
    """A tensor over all devices, and one whole on each."""
    value = np.arange(64 * 4, dtype=np.float32).reshape(4, 64)
    write(path, {"split": value, "whole": value})
    mesh = jax.make_mesh((8,), ("fsdp",), (AxisType.Auto,))
    wanted = {
        name: jax.ShapeDtypeStruct((64, 4), jnp.bfloat16, sharding=NamedSharding(mesh, spec))
        for name, spec in (("split", PartitionSpec("fsdp")), ("whole", PartitionSpec()))
    }
    places = [Linear(ours=name, theirs=name) for name in wanted]
    found = fill({"params": wanted}, Folder(str(path)), places)["params"]
    shards = {name: list(x.addressable_shards[3].data.shape) for name, x in found.items()}
    equal = all(np.array_equal(np.asarray(x, np.float32), value.T) for x in found.values())
    return {"devices": jax.device_count(), "shards": shards, "equal": equal}


def memory(path: Path) -> dict:
    """Of a file of float32 into bfloat16 on one device."""
    tensor = np.ones((ROWS, COLUMNS), np.float32)
    write(path, {f"t{i}": tensor for i in range(NUMBER)})
    del tensor
    wanted = {f"t{i}": jax.ShapeDtypeStruct((COLUMNS, ROWS), jnp.bfloat16) for i in range(NUMBER)}
    places = [Linear(ours=name, theirs=name) for name in wanted]
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark so far is forgotten
    before = status("VmRSS")
    found = jax.block_until_ready(fill({"params": wanted}, Folder(str(path)), places))
    size = sum(x.nbytes for x in jax.tree.leaves(found))
    return {
        "risen_mb": (status("VmHWM") - before) / 1e6,
        "parameters_mb": size / 1e6,
        "tensor_mb": 4 * ROWS * COLUMNS / 1e6,
    }


def status(key: str) -> int:
    """Bytes of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def write(path: Path, tensors: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    path.mkdir()
    save_file(tensors, path / "model.safetensors")


if __name__ == "__main__":
    sys.exit(main())
