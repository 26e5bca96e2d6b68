"""The one training loop: build, restore, then step, log, evaluate, save."""

import contextlib
import dataclasses
from pathlib import Path

import jax

from vlm_jax.train import runs
from vlm_jax.train.checkpoints import Checkpoints
from vlm_jax.train.evaluation import Evaluator
from vlm_jax.train.experiment import Experiment, check
from vlm_jax.train.interrupts import Interrupted, StopRequest
from vlm_jax.train.logs import Console, JsonLines, Log, Tee
from vlm_jax.train.state import State, init_state, seed_keys
from vlm_jax.train.steps import train_step

CONSOLE = Console()


def train(experiment: Experiment, workdir: Path | None = None, log: Log = CONSOLE) -> State:
    """Trains from the newest checkpoint in `workdir`, or from the start, to `num_steps`, and returns the state.

    SIGTERM and SIGINT (in the main thread) save and return early. Without a workdir nothing is written.
    Raises NonFiniteError, Locked, CheckpointError and ValueError; each says what to do.
    """
    check(experiment)
    workdir = None if workdir is None else Path(workdir).absolute()
    model, task, optimizer = experiment.model, experiment.task, experiment.optimizer
    shard = (jax.process_index(), jax.process_count())
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopRequest())
        files = None
        if workdir is not None:
            files = stack.enter_context(Checkpoints(workdir, experiment.keep_checkpoints))

        # Build. Shapes first, so that no parameter ever exists unsharded.
        train_data = experiment.seeded_train_data
        example = next(train_data.batches(0, shard=shard))[1]
        if hasattr(task, "check"):
            task.check(model, example)
        layout, tx = experiment.partition.build(), optimizer.build()
        init_key, step_key, evaluation_key = seed_keys(experiment.seed)

        def create(key):
            return init_state(model, tx, example, key, ema=optimizer.ema_decay is not None)

        # Restore, if there is something to restore.
        shapes = jax.eval_shape(create, init_key)
        restored = runs.restore(experiment, files, layout.like(shapes)) if files else None
        if restored is not None:
            state, position, step = restored.state, restored.position, restored.step
            state, progress = layout.place_state(state), runs.Progress(**restored.progress)
        else:
            state, position, step, progress = layout.create(create, init_key), 0, 0, runs.Progress()
            state = runs.load_pretrained(experiment.init_params, model, state, layout)

        writer = stack.enter_context(
            contextlib.closing(Tee([log.open(workdir, experiment.num_steps)]))
        )
        if files:
            lines = JsonLines(workdir / "metrics.jsonl", progress.metrics_bytes)
            writer.add(lines)
            done = progress.finished(experiment, step)
            runs.describe(experiment, workdir, step, writer.message, finished=done)
        writer.message(f"{runs.parameters(shapes)}, from step {step}")
        writer.start(step)

        def pure(axis):
            return train_step(
                model,
                task,
                tx,
                trainable=optimizer.trainable,
                accumulate=optimizer.accumulate,
                ema_decay=optimizer.ema_decay,
                max_skips=experiment.max_skips,
                axis=axis,
            )

        take_step = layout.compile_train_step(pure, shapes, step_key)
        evaluators = [Evaluator(e, model, task, layout=layout) for e in experiment.evaluations]
        window = runs.Window(experiment, progress, writer, int(layout.single(state).skipped))
        data = train_data.batches(position, shard=shard)

        def evaluate(last: bool) -> bool:
            """Whatever is due at this step and not yet done; True where the best checkpoint is this one."""
            improved = False
            for evaluator in evaluators:
                name = evaluator.evaluation.name
                if evaluator.evaluation.due(step, last) and not progress.evaluated(step, name):
                    window.settle()
                    with window.paused():
                        variables = layout.single(state).eval_variables
                        results = evaluator(variables, evaluation_key, poll=stop.poll)
                        writer.numbers(step, name, results.numbers)
                        runs.report(evaluator.evaluation, workdir, step, results)
                    improved |= progress.note(experiment, step, name, results.numbers)
            return improved

        def save(single: State, step: int, position: int) -> None:
            if files:
                progress.metrics_bytes = lines.size
                files.save(step, single, position, dataclasses.asdict(progress))

        first = step
        try:
            while True:
                improved = False
                with contextlib.suppress(Interrupted):
                    improved = evaluate(last=step >= experiment.num_steps)
                    if progress.out_of_patience(experiment.best):
                        evaluate(last=True)
                finished = progress.finished(experiment, step) or stop.requested is not None
                periodic = step % experiment.checkpoint_every == 0 and step > first
                if finished or improved or periodic:
                    window.settle()
                    with window.paused():
                        save(layout.single(state), step, position)
                if finished:
                    break
                with window.waiting():
                    after, batch = next(data)
                state, metrics = take_step(state, layout.place_batch(batch))
                window.add(step, position, batch, metrics)
                step, position = step + 1, after
                writer.step(step)
                if files:
                    files.check()
        except runs.NonFiniteStep as bad:
            single = layout.single(state)  # it has stood still since the bad step
            single = single.replace(skipped=single.skipped - 1)
            save(single, bad.step, bad.position)
            raise runs.explain(bad, experiment, single, step_key, workdir) from None
        if stop.requested:
            writer.message(
                f"stopped by {stop.requested} at step {step}" + (", saved" if files else "")
            )
        return layout.single(state)
