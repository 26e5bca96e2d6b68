"""Prints, as JSON, what contrastive training gives on 1 and 8 fake devices; run by test_contrastive.py in one process."""

import functools
import json
import sys

import jax

from tests.invariants import retrieval_checks
from tests.train.devices_main import furthest
from vlm_jax.tasks.contrastive import Contrastive, sigmoid_pairs, softmax_pairs
from vlm_jax.train.optimizers import Sgd
from vlm_jax.train.partition import Partition
from vlm_jax.train.state import init_state
from vlm_jax.train.steps import train_step

KEY = jax.random.key(0)
LAYOUTS = {
    "data 1": Partition(mesh=(("data", 1),)),
    "data 8": Partition(),
    "fsdp 8": Partition(mesh=(("fsdp", 8),), rules=((r"text_projection/kernel$", (None, None)),)),
    "pmap 8": Partition(strategy="pmap"),
}


def trained(objective, partition):
    """Parameters, losses and norms of the gradient after three steps on the same eight pairs."""
    model, tx = retrieval_checks.model(), Sgd(learning_rate=0.1).build()
    batch = retrieval_checks.BATCH
    layout = partition.build()
    make = functools.partial(init_state, model, tx, batch)
    state = layout.create(make, KEY)
    task = Contrastive(objective=objective)
    step = layout.compile_train_step(
        lambda axis: train_step(model, task, tx, axis=axis), jax.eval_shape(make, KEY), KEY
    )
    losses, norms, recalls = [], [], []
    for _ in range(3):
        state, metrics = step(state, layout.place_batch(batch))
        losses.append(float(metrics["loss"].value()))
        norms.append(float(metrics["grad_norm"].value()))
        recalls.append(float(metrics["in_batch_r1"].value()))
    return layout.single(state).params, losses, norms, recalls


def main():
    found = {"devices": jax.device_count()}
    for objective in (softmax_pairs, sigmoid_pairs):
        runs = {name: trained(objective, partition) for name, partition in LAYOUTS.items()}
        one = runs.pop("data 1")
        for name, run in runs.items():
            found[f"{objective.__name__}, {name}"] = [furthest(a, b) for a, b in zip(run, one)]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
