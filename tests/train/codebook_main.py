"""Prints, as JSON, what a codebook is after some steps on 1 and 8 fake devices, and after a resumed run; run by
test_codebook_devices.py."""

import json
import sys
import tempfile

import jax
import numpy as np

from tests.invariants import image_tokenizer_checks as small
from vlm_jax.layers.quantisation import CODEBOOK, VectorQuantiser
from vlm_jax.train import checkpoints
from vlm_jax.train.partition import Partition
from vlm_jax.train.state import init_state, state_hash
from vlm_jax.train.steps import train_step

KEY = jax.random.key(0)
LAYOUTS = {
    "data 1": Partition(mesh=(("data", 1),)),
    "data 8": Partition(mesh=(("data", 8),)),
    "pmap 8": Partition(strategy="pmap"),
}
STEPS = 6
# Half a use a batch is dead, so that codes begin anew in most steps.
QUANTISER = VectorQuantiser(num_codes=24, width=3, decay=0.6, dead_below=0.5)
MODEL = small.tokenizer(QUANTISER, num_blocks=0)


def trained(partition):
    layout, tx = partition.build(), small.Tokenizer().tx

    def create(key):
        return init_state(MODEL, tx, small.batch(), key)

    def pure(axis):
        return train_step(MODEL, small.Tokenizer.task, tx, axis=axis)

    shapes = jax.eval_shape(create, KEY)
    step = layout.compile_train_step(pure, shapes, KEY)

    def run(state, first, last):
        for number in range(first, last):
            state, _ = step(state, layout.place_batch(small.batch(number)))
        return state

    single = layout.single(run(layout.create(create, KEY), 0, STEPS))
    with tempfile.TemporaryDirectory() as workdir:
        half = layout.single(run(layout.create(create, KEY), 0, STEPS // 2))
        checkpoints.save(workdir, STEPS // 2, half, STEPS // 2)
        restored, position = checkpoints.restore(workdir, layout.like(shapes))
        resumed = layout.single(run(layout.place_state(restored), position, STEPS))
    book = single.collections[CODEBOOK]["quantiser"]
    return {
        "vectors": np.asarray(book["vectors"]).tolist(),
        "uses": np.asarray(book["uses"]).tolist(),
        "updates": int(book["updates"]),
        "resumed is bit-equal": state_hash(resumed) == state_hash(single),
    }


def main():
    json.dump({name: trained(partition) for name, partition in LAYOUTS.items()}, sys.stdout)


if __name__ == "__main__":
    main()
