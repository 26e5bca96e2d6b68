"""Prints, as JSON, what self-critical training gives on 1 and 8 fake devices; run by test_self_critical_devices.py."""

import json
import sys

import jax
import numpy as np

from tests.tasks import test_self_critical as small
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.train.optimizers import Sgd
from vlm_jax.train.partition import Partition
from vlm_jax.train.state import init_state, named_leaves
from vlm_jax.train.steps import train_step

KEY = jax.random.key(0)
LAYOUTS = {
    "data 1": Partition(mesh=(("data", 1),)),
    "data 8": Partition(mesh=(("data", 8),)),
    "pmap 8": Partition(strategy="pmap"),
}


def trained(partition):
    """Numbers of each of two steps, and the parameters after them."""
    layout, tx = partition.build(), Sgd(learning_rate=0.1).build()
    model, batch = small.learning().model, small.batch(rows=8)
    task = small.task(baseline=Greedy(max_length=3, banned=small.BANNED))

    def create(key):
        return init_state(model, tx, batch, key)

    def pure(axis):
        return train_step(model, task, tx, axis=axis)

    step = layout.compile_train_step(pure, jax.eval_shape(create, KEY), KEY)
    state, numbers = layout.create(create, KEY), []
    for _ in range(2):
        state, metrics = step(state, layout.place_batch(batch))
        numbers.append({key: float(mean.value()) for key, mean in metrics.items()})
    leaves = named_leaves(layout.single(state).params).values()
    return {"numbers": numbers, "params": np.concatenate([np.ravel(x) for x in leaves]).tolist()}


def main():
    json.dump({name: trained(partition) for name, partition in LAYOUTS.items()}, sys.stdout)


if __name__ == "__main__":
    main()
