"""One training step as a pure function of (state, batch, key), the same under jit, pmap and a mesh.

The gradient of a batch is a sum over what the loss counts (tokens, examples) divided once by their number, so
micro-batches, devices and the undivided batch agree. Means of means do not.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from vlm_jax.metrics.base import Mean
from vlm_jax.train.state import State
from vlm_jax.types import BASE, CARRY, Array, Batch

RNG_NAMES = ("dropout", "sampling", "noise")  # Linen rng collections, a key of its own for each

Step = Callable[[State, Batch], tuple[State, dict[str, Mean]]]


def make_train_step(
    model: Any, task: Any, tx: optax.GradientTransformation, key, **options
) -> Step:
    """`train_step` compiled for one device, the state's buffers reused: the state passed in is consumed."""
    pure = train_step(model, task, tx, **options)
    compiled = jax.jit(pure, donate_argnums=0)
    return lambda state, batch: compiled(state, batch, key)


def train_step(
    model: Any,
    task: Any,
    tx: optax.GradientTransformation,
    *,
    trainable: Callable[[Any], Any] | None = None,
    accumulate: int = 1,
    ema_decay: float | None = None,
    max_skips: int = 0,
    axis: str | None = None,
) -> Callable[[State, Batch, jax.Array], tuple[State, dict[str, Mean]]]:
    """Returns step(state, batch, key) -> (state, metrics), untransformed.

    `trainable(params)` marks the leaves that have a gradient; `accumulate` splits the batch into that many
    micro-batches, `axis` is the name of the pmap axis over which batches are split.

    A step whose loss or gradient is not finite changes nothing but `step` and `skipped`. After more than
    `max_skips` of them in a row the state stands still, at the step of the offending batch, whatever follows; so
    the host may notice later (`metrics["finite"]`) and still find the state that the bad batch met.
    """

    def step(state: State, batch: Batch, key: jax.Array):
        now = task_at(task, state.step)
        gradients = gradient_sums(model, now, trainable=trainable, accumulate=accumulate)
        key = step_key(key, state.step)
        if axis is not None:  # otherwise every device would draw the same dropout masks
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        grads, metrics, collections = gradients(state.params, state.collections, batch, key)
        if axis is not None:
            grads, metrics = jax.lax.psum((grads, metrics), axis)
            collections = {
                name: tree if name == BASE else _mean_over_devices(tree, axis)
                for name, tree in collections.items()
            }
        count = jnp.maximum(metrics["loss"].count, 1e-12)
        grads = jax.tree.map(lambda g: g / count, grads)
        norm = optax.global_norm(grads)
        finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"].total)

        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema_decay is not None:
            ema = moving_average(ema, params, ema_decay, state.step + 1)

        halted = state.skipped > max_skips
        skipped = jnp.where(halted, state.skipped, jnp.where(finite, 0, state.skipped + 1))
        new = (params, collections, opt_state, ema)
        old = (state.params, state.collections, state.opt_state, state.ema)
        good = finite & ~halted
        params, collections, opt_state, ema = jax.tree.map(
            lambda n, o: jnp.where(good, n, o), new, old
        )
        metrics = dict(metrics)
        metrics["grad_norm"] = Mean(total=norm, count=jnp.ones(()))
        metrics["finite"] = Mean(total=good.astype(jnp.float32), count=jnp.ones(()))
        return State(
            step=state.step + jnp.where(skipped > max_skips, 0, 1).astype(jnp.int32),
            params=params,
            collections=collections,
            opt_state=opt_state,
            ema=ema,
            skipped=skipped.astype(jnp.int32),
        ), metrics

    return step


def task_at(task: Any, step: Array) -> Any:
    """The task as it is at this step: one that changes in the course of training has a method `at`."""
    return task.at(step) if hasattr(task, "at") else task


def gradient_sums(
    model: Any,
    task: Any,
    *,
    trainable: Callable[[Any], Any] | None = None,
    accumulate: int = 1,
) -> Callable[[Any, Any, Batch, jax.Array], tuple[Any, dict[str, Mean], Any]]:
    """Returns f(params, collections, batch, key) -> gradients summed over the counted elements, in float32,
    summed metrics, new collections."""

    def loss_sum(params, collections, batch, rngs):
        variables = {"params": params, **collections}
        loss, aux = task.loss(model, variables, batch, rngs=rngs, train=True)
        if "loss" not in aux.metrics:
            raise ValueError(
                f"{type(task).__name__}.loss returned the metrics {sorted(aux.metrics)}; expected 'loss' among "
                "them, whose count is the number that the loss was divided by"
            )
        count = jax.lax.stop_gradient(aux.metrics["loss"].count)
        updated = {name: aux.collections.get(name, old) for name, old in collections.items()}
        return loss * count, (aux.metrics, updated)

    def gradients(params, collections, batch, key):
        trained = jax.tree.map(lambda _: True, params) if trainable is None else trainable(params)

        def of_micro_batch(collections, batch, index):
            given, rngs = collections, rng_keys(jax.random.fold_in(key, index))
            grad, (metrics, collections) = jax.grad(loss_sum, has_aux=True)(
                params, collections, batch, rngs
            )
            if trainable is not None:
                collections = still_where_frozen(collections, given, trained)
            # A frozen leaf has a gradient of zero that nothing computes.
            grad = jax.tree.map(
                lambda g, keep: g.astype(jnp.float32) if keep else jnp.zeros(g.shape, jnp.float32),
                grad,
                trained,
            )
            return grad, metrics, collections

        if accumulate == 1:
            return of_micro_batch(collections, batch, 0)

        def body(carry, item):
            grad, metrics, collections = carry
            more_grad, more_metrics, collections = of_micro_batch(collections, *item)
            return add((grad, metrics), (more_grad, more_metrics)) + (collections,), None

        micro = jax.tree.map(lambda x: split(x, accumulate), dict(batch))
        first = jax.tree.map(lambda x: x[0], micro)
        shapes = jax.eval_shape(of_micro_batch, collections, first, 0)
        grad, metrics = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[:2])
        start = (grad, metrics, collections)
        return jax.lax.scan(body, start, (micro, jnp.arange(accumulate)))[0]

    return gradients


def still_where_frozen(updated: Any, given: Any, trained: Any) -> Any:
    """The collections `updated`, but as `given` where they belong to a module all of whose parameters are frozen: running
    statistics of a batch norm, a codebook. A module without parameters goes with the one around it. What is carried from
    batch to batch is no part of the model."""
    kept = flatten_dict(trained)

    def is_trained(module: tuple[str, ...]) -> bool:
        below = [keep for path, keep in kept.items() if path[: len(module)] == module]
        return any(below) if below else is_trained(module[:-1])

    def of(name: str, tree: Any) -> Any:
        if name == CARRY or not isinstance(tree, Mapping):
            return tree
        new, old = (flatten_dict(each, keep_empty_nodes=True) for each in (tree, given[name]))
        return unflatten_dict({p: x if is_trained(p[:-1]) else old[p] for p, x in new.items()})

    return {name: of(name, tree) for name, tree in updated.items()}


def step_key(key: jax.Array, step: Array) -> jax.Array:
    """The key of one step: nothing random depends on anything but the seed and the step."""
    return jax.random.fold_in(key, step)


def rng_keys(key: jax.Array) -> dict[str, jax.Array]:
    """A key for each Linen rng collection."""
    return {name: jax.random.fold_in(key, i) for i, name in enumerate(RNG_NAMES)}


def moving_average(average: Any, params: Any, decay: float, count: Array | int) -> Any:
    """The mean of the parameters after each of `count` steps, those of k steps ago with the weight decay^k, from the mean
    before the last: average + (1 - decay) / (1 - decay^count) (params - average), in the float32 of the average.

    What the average was before the first step has no weight, as in Kingma and Ba 2015 (Adam), section 3. At a decay of 0.999 initial
    parameters would still weigh 1/20 after 3,000 steps.
    """
    kept = 1.0 if decay == 0 else -jnp.expm1(count * math.log(decay))
    weight = (1.0 - decay) / kept
    return jax.tree.map(lambda a, p: a + weight * (p.astype(a.dtype) - a), average, params)


def split(x: Array, parts: int) -> Array:
    """[b ...] -> [parts b/parts ...], part i holding rows i, i + parts, ...

    Interleaved, so that an axis b laid over devices needs no exchange.
    """
    if x.shape[0] % parts:
        raise ValueError(
            f"a batch of {x.shape[0]} rows (on each device) does not split into {parts} micro-batches; make "
            "batch_size a multiple of Optimizer.accumulate times the number of devices"
        )
    return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)


def add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def _mean_over_devices(collection: Any, axis: str) -> Any:
    """Running statistics averaged; a module that wants the variance of the global batch names `axis` itself."""

    def mean(x):
        return jax.lax.pmean(x, axis) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(mean, collection)
