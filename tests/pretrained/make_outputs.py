"""Writes tests/pretrained/stored: what transformers computes of small models whose weights a seed gives.

    python -m tests.pretrained.make_outputs            all of them
    python -m tests.pretrained.make_outputs vit        those whose names begin so

Run by hand, with a Python that has torch and transformers beside this package. Each folder gets config.json and
outputs.npz: inputs, logits, hidden states block by block. The weights are drawn from their names (published.py), and
transformers has to find every tensor that it wants in the file and use every one that is there.
"""

import json
import pkgutil
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.pretrained import published, references


def main(names: list[str]) -> int:
    import transformers

    for found in pkgutil.iter_modules(references.__path__):
        module = published.reference_module(found.name)
        for name, config in module.CONFIGS.items():
            if names and not any(name.startswith(start) for start in names):
                continue
            config = {**config, "transformers_version": transformers.__version__}
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder)
                published.write(path, config)
                arrays = module.outputs(published.read_by_reference(path, config), config)
            target = published.STORED / name
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
            arrays = {key: np.asarray(value, np.float32) for key, value in arrays.items()}
            np.savez_compressed(target / "outputs.npz", **arrays)
            print(f"{name}: {sum(f.stat().st_size for f in target.iterdir()):,} bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
