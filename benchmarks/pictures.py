"""Seconds a picture for each sampler, in one run.

    python -m benchmarks.pictures
    python -m benchmarks.pictures --rows 16 --rounds 5

Each sampler paints `--rows` prompts of the scenes, one picture each, with the sizes of its experiment and weights that
know nothing: how long it takes does not depend on them. The samplers take turns; a number is the median
[least-greatest] of the rounds, after one that compiles. Guidance reads twice, once with the prompt and once without.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator


def main(argv: list[str] | None = None) -> int:
    """Prints a line a sampler."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    from vlm_jax.memory import keep_freed_memory

    keep_freed_memory()  # as the command line does
    samplers = dict(painters(options.rows))
    times = {name: [] for name in samplers}
    for _ in range(options.rounds):
        for name, paint in samplers.items():
            start = time.perf_counter()
            paint()
            times[name].append((time.perf_counter() - start) / options.rows)
    for name, found in times.items():
        milliseconds = [1e3 * each for each in (statistics.median(found), min(found), max(found))]
        print("{:44s} {:8.1f} ms a picture [{:.1f}-{:.1f}]".format(name, *milliseconds), flush=True)
    return 0


def painters(rows: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """(what it is called, a function that paints `rows` pictures), compiled."""
    yield from by_codes(rows)
    yield from by_flow(rows)


def by_codes(rows: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """One code after another, with and without guidance, and all at once in a few readings."""
    import dataclasses

    from experiments import dalle_scenes

    sequential = {
        "transformer": dalle_scenes.transformer(),
        "planned": dalle_scenes.planned(eyes=""),
        "lstm": dalle_scenes.lstm(),
    }
    for name, experiment in sequential.items():
        for scale in (1.0, 3.0):
            task = dataclasses.replace(experiment.task, guidance=scale)
            yield f"{name}, guidance {scale:g}", painter(experiment, task, rows)
    parallel = {
        "maskgit": (dalle_scenes.maskgit(), (8, 12, 16)),
        "maskgit_planned": (dalle_scenes.maskgit_planned(), (2, 4, 12)),
    }
    for name, (experiment, numbers) in parallel.items():
        for readings in numbers:
            decoding = dataclasses.replace(experiment.task.decoding, num_steps=readings)
            task = dataclasses.replace(experiment.task, decoding=decoding)
            yield (
                f"{name}, {readings} readings, guidance {task.guidance:g}",
                painter(experiment, task, rows),
            )


def by_flow(rows: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Rectified flow: a network read once a step by Euler's method, twice by Heun's."""
    import dataclasses

    from experiments import flow_scenes
    from vlm_jax.decoding.integrators import Euler, Heun

    integrators = (Euler(num_steps=8), Euler(num_steps=24), Heun(num_steps=4), Heun(num_steps=12))
    for name, some in (
        ("unet", integrators),
        ("planned", integrators[-1:]),
        ("dit", integrators[-1:]),
    ):
        experiment = getattr(flow_scenes, name)()
        for integrator in some:
            task = dataclasses.replace(experiment.task, integrator=integrator)
            kind = f"{type(integrator).__name__}, {integrator.num_steps} steps"
            yield f"flow {name}, {kind}, guidance 3", painter(experiment, task, rows)


def painter(experiment, task, rows: int) -> Callable[[], None]:
    """Paints prompts of random words with random weights."""
    import jax
    import numpy as np

    from vlm_jax.train.state import init_state
    from vlm_jax.types import BOS, EOS

    length, places = 36, 64
    text = np.random.default_rng(0).integers(4, 40, (rows, length)).astype(np.int32)
    text[:, 0], text[:, -1] = BOS, EOS
    batch = {"text": text, "valid": np.ones(rows, bool), "id": np.arange(rows, dtype=np.int32)}
    target = np.full((rows, places + 2), BOS, np.int32)
    seen = {**batch, "target": target}
    if hasattr(experiment.model, "image_shape"):
        seen["image"] = np.zeros((rows, *experiment.model.image_shape), np.float32)
    if hasattr(experiment.model, "planner"):
        seen["plan"] = np.zeros((rows, task.plan.length), np.int32)
    tx = experiment.optimizer.build()
    create = jax.jit(lambda key: init_state(experiment.model, tx, seen, key).variables)
    variables = create(jax.random.key(0))
    predict = jax.jit(
        lambda variables, batch, key: task.predict(experiment.model, variables, batch, key)
    )
    jax.block_until_ready(predict(variables, batch, jax.random.key(1)))
    return lambda: jax.block_until_ready(predict(variables, batch, jax.random.key(2)))


if __name__ == "__main__":
    sys.exit(main())
