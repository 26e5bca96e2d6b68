"""Prints, as JSON, what training gives on 1, 2, 4 and 8 fake devices; run by test_devices.py in one process."""

import dataclasses
import functools
import json
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from tests.train import toys
from vlm_jax.train import checkpoints as c
from vlm_jax.train.evaluation import Evaluator
from vlm_jax.train.optimizers import AdamW, Sgd
from vlm_jax.train.partition import Partition
from vlm_jax.train.state import init_state, named_leaves, state_hash
from vlm_jax.train.steps import train_step

NUM_STEPS = 50
KEY = jax.random.key(0)
FSDP = ((r"kernel$|embedding$", ("fsdp",)), (".*", ()))
DATA = toys.Pipeline(batch_size=16)
BATCHES = [batch for _, (_, batch) in zip(range(NUM_STEPS), DATA.batches())]
OPTIMIZER = AdamW(learning_rate=0.02, clip_norm=0.5, weight_decay=0.1, ema_decay=0.9)
SGD = Sgd(learning_rate=0.05, accumulate=2)

LAYOUTS = {
    "data 1": Partition(mesh=(("data", 1),)),
    "data 2": Partition(mesh=(("data", 2),)),
    "data 4": Partition(mesh=(("data", 4),)),
    "data 8": Partition(mesh=(("data", 8),)),
    "fsdp 8": Partition(mesh=(("fsdp", 8),), rules=FSDP),
    "data 2 fsdp 4": Partition(mesh=(("data", 2), ("fsdp", -1)), rules=FSDP),
    "pmap 2": Partition(strategy="pmap", mesh=(("data", 2),)),
    "pmap 8": Partition(strategy="pmap"),
}


@functools.cache
def prepared(layout, model, optimizer=OPTIMIZER):
    return Run(LAYOUTS[layout], model, optimizer)


class Run:
    """One layout, one compiled step."""

    def __init__(self, partition, model, optimizer=OPTIMIZER):
        self.layout, self.optimizer = partition.build(), optimizer
        tx = optimizer.build()
        ema = optimizer.ema_decay is not None
        self.make = lambda key: init_state(model, tx, BATCHES[0], key, ema=ema)
        self.shapes = jax.eval_shape(self.make, KEY)

        def pure(axis):
            return train_step(
                model,
                toys.Task(),
                tx,
                trainable=optimizer.trainable,
                accumulate=optimizer.accumulate,
                ema_decay=optimizer.ema_decay,
                axis=axis,
            )

        self.step = self.layout.compile_train_step(pure, self.shapes, KEY)

    def train(self, state=None, first=0, last=NUM_STEPS):
        state = self.layout.create(self.make, KEY) if state is None else state
        losses, norms = [], []
        for batch in BATCHES[first:last]:
            state, metrics = self.step(state, self.layout.place_batch(batch))
            losses.append(float(metrics["loss"].value()))
            norms.append(float(metrics["grad_norm"].value()))
        return state, losses, norms


def furthest(a, b):
    """The largest difference of any leaf, relative to the largest value in the leaf."""
    pairs = zip(named_leaves(a).values(), named_leaves(b).values())
    return max(
        float(np.abs(np.float64(x) - np.float64(y)).max() / max(np.abs(np.float64(y)).max(), 1e-2))
        for x, y in pairs
    )


def main():
    found = {"devices": jax.device_count(), "layouts": {}}
    plain = toys.Model(width=16, dropout_rate=0.0, batch_norm=False)
    dropping = toys.Model(width=16)  # under a mesh dropout and batch statistics are global as well

    for name, model, optimizer, layouts in (
        ("plain", plain, OPTIMIZER, LAYOUTS),
        ("dropout and batch norm", dropping, OPTIMIZER, ("data 1", "data 8", "data 2 fsdp 4")),
        ("accumulated", plain, SGD, ("data 1", "data 8", "pmap 8")),
    ):
        reference = None
        for layout in layouts:
            run = prepared(layout, model, optimizer)
            state, losses, norms = run.train()
            single = run.layout.single(state)
            result = {"state": single, "losses": losses, "norms": norms}
            if reference is None:
                reference = result
                again = run.layout.single(run.train()[0])
                found[f"{name}: repeated run is bit-equal"] = state_hash(again) == state_hash(
                    single
                )
            found["layouts"][f"{name}, {layout}"] = {
                "losses": furthest(losses, reference["losses"]),
                "norms": furthest(norms, reference["norms"]),
                "params": furthest(single.params, reference["state"].params),
                "ema": furthest(single.ema, reference["state"].ema) if single.ema else 0.0,
                "collections": furthest(single.collections, reference["state"].collections)
                if single.collections
                else 0.0,
            }

    # Every parameter, moment and average is born where the rules say.
    run = prepared("data 2 fsdp 4", plain)
    state = run.layout.create(run.make, KEY)
    after = run.train(state, 0, 1)[0]
    for moment, tree in (("born", run.layout.create(run.make, KEY)), ("after a step", after)):
        sharded = {
            leaf_name: leaf.addressable_shards[0].data.shape
            for leaf_name, leaf in named_leaves(tree).items()
            if leaf.ndim and leaf.addressable_shards[0].data.shape != leaf.shape
        }
        found[f"sharded, {moment}"] = {n: list(shape) for n, shape in sorted(sharded.items())}
        found["shapes"] = {n: list(leaf.shape) for n, leaf in named_leaves(tree).items()}

    # 8 -> 4 -> 1 -> 8 devices, and pmap, each from the checkpoint of the one before.
    one = prepared("data 1", plain)
    whole_state, whole_losses, _ = one.train()
    losses, first = [], 0
    with tempfile.TemporaryDirectory() as workdir:
        chain = ["fsdp 8", "data 4", "data 1", "pmap 2", "data 2 fsdp 4"]
        for index, layout in enumerate(chain):
            run = prepared(layout, plain)
            state = None
            if index:
                state, position = c.restore(workdir, run.layout.like(run.shapes))
                assert position == first
                state = run.layout.place_state(state)
            state, more, _ = run.train(state, first, first + 10)
            losses, first = losses + more, first + 10
            c.save(workdir, first, run.layout.single(state), first)
        found["chain losses"] = furthest(losses, whole_losses)
        found["chain params"] = furthest(run.layout.single(state).params, whole_state.params)

    # Evaluation: the same predictions and numbers, each example once, on any number of devices.
    experiment = toys.experiment(model=plain)
    variables = jax.device_get(one.layout.single(one.train(None, 0, 5)[0]).eval_variables)
    seen = {}
    for layout in ("data 1", "data 2", "data 8", "pmap 8"):
        evaluation = dataclasses.replace(experiment.evaluations[0], reports=(print,))
        evaluator = Evaluator(evaluation, plain, experiment.task, layout=LAYOUTS[layout].build())
        for size in (1, 7, 16, 17):
            data = toys.Pipeline(source=toys.Rows(size=size), train=False)
            evaluator.evaluation = dataclasses.replace(evaluation, data=data)
            seen.setdefault(size, []).append(evaluator(variables, KEY))
    found["evaluation ids"] = {
        size: all([e["id"] for e in examples] == list(range(size)) for _, examples in runs)
        for size, runs in seen.items()
    }
    found["evaluation predictions equal"] = all(
        examples == runs[0][1] and numbers["accuracy"] == runs[0][0]["accuracy"]
        for runs in seen.values()
        for numbers, examples in runs
    )
    found["evaluation losses"] = max(
        abs(numbers["loss"] / runs[0][0]["loss"] - 1)
        for runs in seen.values()
        for numbers, _ in runs
    )

    # nan on the rows of one device only: all devices stop, and nothing moves.
    for layout in ("data 8", "pmap 8"):
        run = prepared(layout, plain)
        state = run.layout.create(run.make, KEY)
        before = state_hash(run.layout.single(state).params)
        bad = {**BATCHES[0], "weight": BATCHES[0]["weight"].copy()}
        bad["weight"][5] = np.nan
        state, metrics = run.step(state, run.layout.place_batch(bad))
        copies = state.params if layout == "data 8" else jax.tree.map(lambda x: x[-1], state.params)
        found[f"nan on one shard, {layout}"] = (
            float(metrics["finite"].total) == 0.0
            and state_hash(copies) == before
            and bool(jnp.all(state.skipped == 1))
        )

    # What does not divide is refused in words.
    errors = {
        "rows": lambda: Run(LAYOUTS["data 8"], plain).layout.place_batch(
            {n: x[:12] for n, x in BATCHES[0].items()}
        ),
        "axis": lambda: Run(LAYOUTS["fsdp 8"], toys.Model(width=12, batch_norm=False)),
        "spec": lambda: Run(Partition(rules=((r"bias$", (None, "data")), (".*", ()))), plain),
        "mesh axis": lambda: Run(Partition(rules=((r"bias$", ("fsdp",)), (".*", ()))), plain),
        "mesh": lambda: Partition(mesh=(("data", 3), ("fsdp", -1))).build(),
    }
    found["errors"] = {}
    for name, call in errors.items():
        try:
            call()
            found["errors"][name] = "nothing raised"
        except ValueError as error:
            found["errors"][name] = str(error)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
