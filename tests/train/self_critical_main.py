"""Prints, as JSON, what self-critical training gives on 1 and 8 fake devices; run by test_self_critical_devices.py."""

import dataclasses
import json
import sys

import jax
import numpy as np

from experiments import self_critical
from vlm_jax.train.optimizers import Sgd
from vlm_jax.train.partition import Partition
from vlm_jax.train.state import init_state, named_leaves
from vlm_jax.train.steps import train_step

KEY = jax.random.key(0)
LAYOUTS = {
    "data 1": (Partition(mesh=(("data", 1),)), 1),
    "data 8": (Partition(mesh=(("data", 8),)), 1),
    "data 8, accumulated": (Partition(mesh=(("data", 8),)), 2),
    "pmap 8": (Partition(strategy="pmap"), 1),
}


def main():
    jax.config.update("jax_disable_most_optimizations", True)
    experiment = self_critical.smoke()
    data = dataclasses.replace(experiment.train_data, batch_size=16, num_workers=0)
    batches = [batch for _, (_, batch) in zip(range(2), data.batches())]
    found = {}
    for name, (partition, accumulate) in LAYOUTS.items():
        layout = partition.build()
        tx = Sgd(learning_rate=0.1).build()

        def create(key):
            return init_state(experiment.model, tx, batches[0], key)

        def pure(axis):
            options = {"accumulate": accumulate, "axis": axis}
            return train_step(experiment.model, experiment.task, tx, **options)

        step = layout.compile_train_step(pure, jax.eval_shape(create, KEY), KEY)
        state, numbers = layout.create(create, KEY), []
        for batch in batches:
            state, metrics = step(state, layout.place_batch(batch))
            numbers.append({key: float(mean.value()) for key, mean in metrics.items()})
        leaves = named_leaves(layout.single(state).params)
        params = np.concatenate([np.ravel(np.asarray(leaf)) for leaf in leaves.values()])
        found[name] = {"numbers": numbers, "params": params.tolist()}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
