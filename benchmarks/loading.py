"""Seconds and memory to load published weights, against safetensors' own reading, in one run.

    python -m benchmarks.loading
    python -m benchmarks.loading --megabytes 2000 --rounds 5

Writes a folder of `--megabytes` of float32 in two shards, the linear layers of a Transformer, and reads it in a process
of its own each time: with safetensors alone (numpy), and with `fill` into parameters on the device, whose layers are
transposed and whose dtype may be another. A time is the median [least-greatest] of the rounds; the file is in the page cache.
Memory is the highest the process had above what it had before loading, beside the arrays that it is left with.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WIDTH = 1024
READERS = ("safetensors, mmap", "safetensors, pread", "fill, float32", "fill, bfloat16")


def main(argv: list[str] | None = None) -> int:
    """Prints a line a reader."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--read", nargs=2, help=argparse.SUPPRESS
    )  # one reading, in a child process
    options = parser.parse_args(argv)
    if options.read:
        print(json.dumps(measured(*options.read)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        size, largest = write(Path(folder), options.megabytes)
        print(f"{size / 1e6:.0f} MB in two shards, the largest tensor {largest / 1e6:.0f} MB")
        for reader in READERS:
            command = [sys.executable, "-m", "benchmarks.loading", "--read", reader, folder]
            found = [
                json.loads(
                    subprocess.run(command, capture_output=True, check=True, text=True).stdout
                )
                for _ in range(options.rounds)
            ]
            times = [each["seconds"] for each in found]
            shown = (statistics.median(times), min(times), max(times))
            rate = size / 1e6 / shown[0]
            beside = max(each["beside"] for each in found) / 1e6
            print(
                "{:20s} {:6.2f} s [{:.2f}-{:.2f}] {:6.0f} MB/s {:8.0f} MB beside the arrays".format(
                    reader, *shown, rate, beside
                ),
                flush=True,
            )
    return 0


def write(folder: Path, megabytes: int) -> tuple[int, int]:
    """Bytes of all tensors, and of the largest."""
    import numpy as np
    from safetensors.numpy import save_file

    layers = max(2, round(megabytes * 1e6 / (4 * 12 * WIDTH * WIDTH)))
    sizes = {"attention": (4 * WIDTH, WIDTH), "up": (4 * WIDTH, WIDTH), "down": (WIDTH, 4 * WIDTH)}
    rng = np.random.default_rng(0)
    weight_map = {}
    for shard, start in (("1.safetensors", 0), ("2.safetensors", layers // 2)):
        end = layers // 2 if start == 0 else layers
        tensors = {
            f"layer.{i}.{name}": rng.standard_normal(size, np.float32)
            for i in range(start, end)
            for name, size in sizes.items()
        }
        save_file(tensors, folder / shard)
        weight_map |= dict.fromkeys(tensors, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return 4 * 12 * WIDTH * WIDTH * layers, 4 * 4 * WIDTH * WIDTH


def measured(reader: str, folder: str) -> dict[str, float]:
    """Seconds, and bytes beside the arrays at the highest."""
    how, _, choice = reader.partition(", ")
    load = {"safetensors": with_safetensors, "fill": with_fill}[how](folder, choice)
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark so far is forgotten
    before = status("VmRSS")
    start = time.perf_counter()
    arrays = load()
    seconds = time.perf_counter() - start
    risen = status("VmHWM") - before
    return {"seconds": seconds, "beside": risen - sum(x.nbytes for x in arrays)}


def with_safetensors(folder: str, backend: str):
    from safetensors.numpy import load_file

    def load():
        files = sorted(Path(folder).glob("*.safetensors"))
        return [x for file in files for x in load_file(file, backend=backend).values()]

    return load


def with_fill(folder: str, dtype: str):
    import jax

    from vlm_jax.pretrained.folder import Folder
    from vlm_jax.pretrained.mapping import fill
    from vlm_jax.pretrained.places import Linear

    opened = Folder(folder)
    shapes = {name: opened.shape(name)[::-1] for name in opened.names()}
    wanted = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in shapes.items()}
    places = [Linear(ours=name, theirs=name) for name in wanted]
    jax.block_until_ready(jax.device_put(0.0))  # the device is there

    def load():
        return jax.tree.leaves(jax.block_until_ready(fill({"params": wanted}, opened, places)))

    return load


def status(key: str) -> int:
    """Bytes of this process, of /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    sys.exit(main())
