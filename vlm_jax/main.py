"""The command line that every experiment file shares.

    python -m experiments.show_attend_and_tell [FUNCTION] train    --workdir runs/sat --model.decoder.width 512
    python -m experiments.show_attend_and_tell [FUNCTION] evaluate --workdir runs/sat [--record]
    python -m experiments.show_attend_and_tell [FUNCTION] predict  IMAGE... --workdir runs/sat
    python -m experiments.text_cnn             [FUNCTION] predict  TEXT...  --workdir runs/text_cnn
    python -m experiments.clip                 [FUNCTION] search   TEXT...  --workdir runs/clip
    python -m experiments.film                 [FUNCTION] predict  IMAGE... --question "is it red" --workdir runs/film
    python -m experiments.show_attend_and_tell [FUNCTION] describe

An experiment file ends with `main(paper, scenes, smoke)`; the first function is the default.
"""

import collections
import dataclasses
import difflib
import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_jax import config
from vlm_jax.memory import keep_freed_memory

ABOUT = "about.json"  # which function of which experiment file a workdir belongs to
STATISTICS = "statistics.npz"  # mean and deviation of cached features
RESULTS = "experiments/results"
SHOWN = 5  # answers with their probabilities
VERBS = ("train", "evaluate", "predict", "search", "describe")
OPTIONS = {  # name -> what the value is called (None: it takes none), what it does
    "workdir": ("DIR", "where config, checkpoints, logs and galleries are"),
    "step": (
        "STEP",
        "evaluate, predict: a number, latest, last-5 (their mean), or best (the default)",
    ),
    "only": ("NAMES", "evaluate: the names of evaluations, separated by commas; search: of one"),
    "record": ("[DIR]", f"evaluate: write the result file of this run (into {RESULTS})"),
    "json": (None, "predict, search: a JSON object a line, with all that is known of each"),
    "file": ("FILE", "predict: texts, one a line; - is the standard input"),
    "classes": ("NAMES", "predict: which of these a picture shows, for a model of two towers"),
    "clip_score": ("DIR", "evaluate: CLIPScore of the captions, by the two towers of that workdir"),
    "question": ("TEXT", "predict: what is asked about each picture"),
    "attention": ("DIR", "predict: also write pictures of where each word, or the answer, looked"),
    "traceback": (None, "show where an error comes from"),
    "help": (None, "this text, and every path with its value"),
}


class UserError(Exception):
    """A message for the person at the terminal; no traceback."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """What was typed, and the experiment file that it was typed for."""

    module: str  # 'experiments.show_and_tell'
    doc: str
    functions: Mapping[str, Callable[[], Any]]
    argv: Sequence[str]
    verb: str | None
    function: str | None  # None: not named, so the default, or that of the workdir
    words: Sequence[str]  # what is left: the pictures, or the texts
    options: Mapping[str, str]
    changes: Mapping[str, str]  # path -> value
    arguments: Mapping[
        str, Any
    ]  # of the function: `def rand(fold: int = 0)` is called with --fold 3

    @property
    def name(self) -> str:
        return self.module.split(".")[-1]

    @property
    def chosen(self) -> str:
        return self.function or next(iter(self.functions))

    def build(self) -> Any:
        """The experiment of the function, with the changes."""
        return _changed(self.functions[self.chosen](**self.arguments), self.changes)

    def about(self) -> dict[str, str]:
        return {
            "experiment": self.name,
            "function": self.chosen,
            "command": shlex.join(["python", "-m", self.module, *self.argv]),
        }


def main(*experiments: Callable[[], Any], argv: Sequence[str] | None = None) -> int:
    """Runs one verb of one experiment; returns the exit code. Errors of the user end with one line and code 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    keep_freed_memory()
    try:
        command = _parse(argv, experiments)
        if "help" in command.options:
            print(_help(command))
        else:
            _VERBS[command.verb](command)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if "--traceback" in argv or not _is_message(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2


# ---- verbs


def _train(command: Command) -> None:
    from vlm_jax.report import curves
    from vlm_jax.train import logs, loop

    _refuse_words(command)
    experiment, workdir = command.build(), _workdir(command)
    if workdir is None:
        print("no --workdir: nothing of this run will be kept", file=sys.stderr)
        loop.train(experiment, None, logs.Console())
        return
    _check_about(command, workdir)
    loop.train(experiment, workdir, Kept(experiment=experiment, about=Hashable(command.about())))
    curves.write_curves(workdir / "metrics.jsonl", workdir / "curves.png")


def _evaluate(command: Command) -> None:
    from vlm_jax.report import record
    from vlm_jax.train import evaluation as evaluations
    from vlm_jax.train import runs

    _refuse_words(command)
    experiment, workdir = _trained(command)
    chosen = _chosen_evaluations(experiment, command.options.get("only"))
    if "record" in command.options:
        for evaluation in chosen:
            record.dataset_and_split(evaluation)  # refuses now what it would refuse after an hour
    variables, step = _variables(workdir, command.options.get("step"))
    measured = []
    for evaluation in chosen:
        if "clip_score" in command.options:
            evaluation = dataclasses.replace(evaluation, reports=evaluation.reports or (_nothing,))
        found = evaluations.evaluate(
            evaluation, experiment.model, experiment.task, variables, seed=experiment.seed
        )
        if "clip_score" in command.options and found.examples:
            from vlm_jax import two_towers

            folder = Path(command.options["clip_score"])
            found = two_towers.with_clip_scores(folder, evaluation, found)
        runs.report(evaluation, workdir, step, found)
        numbers = record.rounded(found.numbers)
        signed = _signature(evaluation.task or experiment.task) if evaluation.predict else {}
        about = {"evaluation": evaluation.name, "step": step}
        print(json.dumps({**about, **numbers, **signed}), flush=True)
        measured.append((evaluation, found.numbers))
    if "record" in command.options:
        run = _about_run(command, experiment, variables, workdir)
        for path in record.write_results(command.options["record"] or RESULTS, run, measured):
            print(f"recorded {path}")


def _search(command: Command) -> None:
    from vlm_jax import two_towers

    two_towers.search(command)


def _predict(command: Command) -> None:
    from vlm_jax import two_towers

    if "classes" in command.options:
        return two_towers.classify(command)
    two_towers.refuse_alone(command)
    experiment = command.build()
    reads_texts = _text_key(_predicting(experiment).data) is not None
    if reads_texts and _reads_pictures(experiment):
        _predict_answers(command)
        return
    if "question" in command.options:
        raise UserError(
            f"--question: the model of {command.name} {command.chosen} reads no picture with a question, only "
            + ("texts: predict 'a text'" if reads_texts else "pictures: leave it out")
        )
    (_predict_texts if reads_texts else _predict_pictures)(command)


def _predict_pictures(command: Command) -> None:
    pictures = _picture_files(command)
    experiment, workdir = _trained(command)
    pipeline, good = _over_pictures(_predicting(experiment).data, pictures)
    examples = _predicted(command, experiment, pipeline, workdir)
    for example in examples:
        name, said = good[example["id"]], example["prediction"]
        if "json" not in command.options:
            print(f"{name}\t{said}")
        elif "probabilities" in example:  # one of several classes
            known = {"prediction": said, "probabilities": example["probabilities"]}
            print(json.dumps({"file": name, **known}, ensure_ascii=False))
        else:
            print(json.dumps({"file": name, "caption": said, "log_prob": example["log_prob"]}))
    if "attention" in command.options:
        _attention_sheets(examples, good, Path(command.options["attention"]))


def _predict_answers(command: Command) -> None:
    """One question about every picture."""
    question = command.options.get("question")
    if question is None or not question.strip():
        given = "none given" if question is None else "an empty one given"
        raise UserError(
            f'predict needs a question, {given}: predict a.jpg --question "what is it" --workdir DIR'
        )
    pictures = _picture_files(command)
    experiment, workdir = _trained(command)
    pipeline = _predicting(experiment).data
    if not _reads_pictures(experiment):
        raise UserError(
            f"the model in {workdir} reads no picture, only the question: write its function, "
            "then predict 'a question', without a picture"
        )
    _check_words(pipeline, question)
    pipeline, good = _over_pictures(pipeline, pictures, question)
    examples = _predicted(command, experiment, pipeline, workdir)
    for example in examples:
        name, answer, probabilities = (
            good[example["id"]],
            example["prediction"],
            dict(sorted(example["probabilities"].items(), key=lambda pair: -pair[1])[:SHOWN]),
        )
        if "json" in command.options:
            known = {"file": name, "question": question, "answer": answer}
            print(json.dumps({**known, "probabilities": probabilities}, ensure_ascii=False))
        else:
            shown = ", ".join(f"{each} {p:.1%}" for each, p in probabilities.items())
            print(f"{name}\t{answer}\t{shown}")
    if "attention" in command.options:
        _attention_sheets(examples, good, Path(command.options["attention"]))


def _predict_texts(command: Command) -> None:
    texts = [*command.words, *_lines_of(command.options.get("file"))]
    if not texts:
        raise UserError(
            "predict needs texts: predict 'a text' 'another' --workdir DIR, or --file FILE"
        )
    experiment, workdir = _trained(command)
    evaluation = _predicting(experiment)
    pipeline = _over_texts(evaluation.data, texts)
    task = evaluation.task or experiment.task
    examples = _predicted(command, experiment, pipeline, workdir)
    for example in examples:
        text = texts[example["id"]]
        if hasattr(task, "with_text"):  # a label a word: it is shown with the words
            example = task.with_text(example, text)
        if "json" in command.options:
            hidden = ("id", "shown")
            known = {name: value for name, value in example.items() if name not in hidden}
            print(json.dumps({"text": text, **known}, default=_jsonable, ensure_ascii=False))
        else:
            print(example.get("shown", f"{text}\t{example['prediction']}"))
    if "attention" in command.options:
        _alignments(examples, Path(command.options["attention"]))


def _predicted(
    command: Command, experiment: Any, pipeline: Any, workdir: Path
) -> list[dict[str, Any]]:
    from vlm_jax.train.evaluation import Evaluation, evaluate

    variables, _ = _variables(workdir, command.options.get("step"))
    over = Evaluation(name="predict", data=pipeline, loss=False, reports=(_nothing,))
    task = _predicting(experiment).task or experiment.task
    if hasattr(task, "metrics"):  # there is nothing to compare with
        task = dataclasses.replace(task, metrics=())
    return evaluate(over, experiment.model, task, variables, seed=experiment.seed).examples


def _describe(command: Command) -> None:
    from vlm_jax.report.modules import module_table

    _refuse_words(command)
    if _workdir(command) is not None:
        experiment, _ = _trained(command)
    else:
        experiment = command.build()
    batch = next(iter(experiment.train_data.batches()))[1]
    print(module_table(experiment.model, batch))


_VERBS = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "search": _search,
    "describe": _describe,
}


# ---- the workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    """The log of a run with a workdir: console and TensorBoard. It is opened when the run holds the workdir, so
    this is also where about.json, the tokenizers and the statistics of cached features are written."""

    experiment: Any
    about: Any

    def open(self, workdir: Path, num_steps: int) -> Any:
        from vlm_jax.train import logs
        from vlm_jax.train.checkpoints import write_json

        save_tokenizers(self.experiment, workdir)
        save_statistics(self.experiment, workdir)
        write_json(workdir / ABOUT, dict(self.about))
        return logs.Several(logs=(logs.Console(), logs.TensorBoard())).open(workdir, num_steps)


class Hashable(dict):
    """A dict that a frozen dataclass may hold; it is never changed."""

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.items())))


def tokenizers(experiment: Any) -> list[Any]:
    """The different tokenizers in the tree, in the order in which they come."""
    found = {}

    def note(node):
        if _is_tokenizer(node):
            found.setdefault(node)
        return node

    config.transform(experiment, note)
    return list(found)


def save_tokenizers(experiment: Any, workdir: Path) -> None:
    """Writes tokenizer.json (tokenizer-2.json ...): the corpus is not needed to use what was trained.

    Raises ValueError where a run would go on with rows that mean other words than before.
    """
    for number, tokenizer in enumerate(tokenizers(experiment), 1):
        path = _tokenizer_path(workdir, number)
        _save_same(
            path,
            tokenizer.save,
            lambda old, new: old.read_bytes() == new.read_bytes(),
            f"{path} has another vocabulary than {type(tokenizer).__name__} builds now: its corpus has changed "
            "since this run began; bring the old data back, or choose another --workdir",
        )


def with_saved_tokenizers(experiment: Any, workdir: Path) -> Any:
    """The experiment with every tokenizer read from the workdir."""
    found = tokenizers(experiment)
    paths = {t: _tokenizer_path(workdir, number) for number, t in enumerate(found, 1)}

    def read(node):
        if _is_tokenizer(node) and paths[node].exists():
            return dataclasses.replace(node, file=str(paths[node]))
        return node

    return config.transform(experiment, read)


def save_statistics(experiment: Any, workdir: Path) -> None:
    """Writes statistics.npz, where an evaluation standardises cached features: predict needs no training picture.

    Raises ValueError where a run would go on with features of another scale than before.
    """
    import numpy as np

    from vlm_jax.data.encoded import save_statistics as save

    sources = _standardised(experiment.evaluations)
    if not sources:
        return

    def same(old, new):
        with np.load(old) as before, np.load(new) as now:
            return all(np.allclose(before[k], now[k]) for k in before.keys() & now.keys())

    path = workdir / STATISTICS
    _save_same(
        path,
        lambda file: save(sources, file),
        same,
        f"{path}: the training pictures have another mean and deviation than when this run began; bring the "
        "old pictures back, or choose another --workdir",
    )


def _save_same(
    path: Path,
    save: Callable[[Path], None],
    same: Callable[[Path, Path], bool],
    refusal: str,
) -> None:
    """Saves a file of a workdir. Once the run has a checkpoint, raises ValueError where it is not the same as before."""
    from vlm_jax.train import checkpoints

    new = path.with_name(f"{path.name}.new")
    save(new)
    begun = checkpoints.steps(path.parent / "checkpoints")
    if begun and path.exists() and not same(path, new):
        new.unlink()
        raise ValueError(refusal)
    os.replace(new, path)


def with_saved_statistics(experiment: Any, workdir: Path) -> Any:
    """The experiment with mean and deviation of cached features read from the workdir."""
    path = workdir / STATISTICS
    if not path.is_file():
        return experiment

    def read(node):
        if getattr(node, "standardise", None) is not None:
            return dataclasses.replace(node, statistics=str(path))
        return node

    return config.transform(experiment, read)


def _standardised(node: Any) -> list[Any]:
    """The sources of cached features under `node` that are standardised, each view of one by itself."""
    found = {}

    def note(node):
        if getattr(node, "standardise", None) is not None:
            found.setdefault(node)
        elif hasattr(node, "views"):
            found.pop(node.source, None)
            found.update(dict.fromkeys(node.views))
        return node

    config.transform(node, note)
    return list(found)


def _is_tokenizer(node: Any) -> bool:
    methods = all(callable(getattr(node, name, None)) for name in ("encode", "decode", "save"))
    return methods and "file" in {field.name for field in config.fields(node)}


def _tokenizer_path(workdir: Path, number: int) -> Path:
    return workdir / ("tokenizer.json" if number == 1 else f"tokenizer-{number}.json")


def _workdir(command: Command) -> Path | None:
    given = command.options.get("workdir")
    return Path(given) if given else None


def _check_about(command: Command, workdir: Path) -> None:
    """Refuses the workdir of another experiment, or of another function that was asked for by name."""
    path = workdir / ABOUT
    if not path.is_file():
        return
    about = json.loads(path.read_text())
    asked = command.chosen if command.verb == "train" else command.function or about["function"]
    if (about["experiment"], about["function"]) != (command.name, asked):
        raise UserError(
            f"{workdir} belongs to {about['experiment']} {about['function']}, given {command.name} {asked}; "
            "choose another --workdir"
        )


def _trained(command: Command) -> tuple[Any, Path]:
    """The experiment of a workdir, with the changes of the command line, and the workdir."""
    workdir = _workdir(command)
    if workdir is None:
        raise UserError("--workdir DIR is needed: the folder that train wrote")
    if not (workdir / "config.json").is_file():
        raise UserError(f"{workdir} has no config.json; train first with the same --workdir")
    _check_about(command, workdir)
    if command.arguments:
        raise UserError(
            f"--{next(iter(command.arguments))} is an argument of {command.chosen}, chosen when the run begins; "
            f"{workdir} has its own"
        )
    yours = command.module.split(".")[0]  # its names, where it is your file
    return _changed(experiment_of(workdir, yours), command.changes), workdir


def experiment_of(workdir: Path, *packages: str) -> Any:
    """The experiment of a workdir with its tokenizers and statistics; names of `packages` may stand in it."""
    node = json.loads((workdir / "config.json").read_text())
    experiment = config.from_json(node, packages=(*config.KNOWN_PACKAGES, *packages))
    return with_saved_statistics(with_saved_tokenizers(experiment, workdir), workdir)


def _variables(workdir: Path, step: str | None) -> tuple[Any, int]:
    """The variables of a checkpoint, and its step. None is the best, or the newest where none is called best."""
    from vlm_jax.train import checkpoints

    found = checkpoints.steps(workdir / "checkpoints")
    if not found:
        raise UserError(f"{workdir} has no checkpoint yet; it has one after checkpoint_every steps")
    if step in (None, "best"):
        best = checkpoints.best_step(workdir)
        wanted = found[::-1] if best is None else [best]
    elif step == "latest":
        wanted = found[::-1]
    elif step.isdigit() and int(step) in found:
        wanted = [int(step)]
    elif step.startswith("last-") and step[5:].isdigit() and 0 < int(step[5:]) <= len(found):
        newest = found[-int(step[5:]) :]
        return checkpoints.average_variables(workdir, newest), newest[-1]
    else:
        steps = ", ".join(map(str, found))
        raise UserError(
            f"--step: given {step}, expected best, latest, one of {steps}, or last-1 to last-{len(found)}, the mean of "
            "so many of them (--keep_checkpoints says in training how many are kept)"
        )
    for number in wanted:
        try:
            return checkpoints.load_variables(workdir, number), number
        except checkpoints.Damaged as error:
            print(f"step {number} is damaged and left out: {error}", file=sys.stderr)
    raise UserError(f"{workdir}: none of the checkpoints {wanted} can be read; try --step latest")


def _chosen_evaluations(experiment: Any, only: str | None) -> list[Any]:
    known = {evaluation.name: evaluation for evaluation in experiment.evaluations}
    names = list(known) if only is None else only.split(",")
    for name in names:
        if name not in known:
            raise UserError(f"--only: given {name}, expected one of {', '.join(known)}")
    if not names:
        raise UserError("this experiment has no evaluations")
    return [known[name] for name in dict.fromkeys(names)]


def _about_run(command: Command, experiment: Any, variables: Any, workdir: Path) -> dict[str, Any]:
    """What a result file says of the run."""
    import jax

    from vlm_jax.report import record

    run = json.loads((workdir / "run.json").read_text())
    about = command.about() | {"command": run["command"]}
    if (workdir / ABOUT).is_file():
        about = json.loads((workdir / ABOUT).read_text())
    if (
        command.changes or {"step", "clip_score"} & command.options.keys()
    ):  # what was measured is not what was trained
        about["command"] += " && " + command.about()["command"]
    return {
        **about,
        **_signature(experiment.task),
        "seed": experiment.seed,
        "commit": run["commit"],
        "device": run["device"],
        "hours": record.hours_of_training(workdir / "metrics.jsonl"),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
    }


def _signature(task: Any) -> dict[str, str]:
    """How the metrics of a task are computed, where they say so."""
    metrics = [m for m in getattr(task, "metrics", ()) if hasattr(m, "signature")]
    return {"signature": " ".join(metric.signature() for metric in metrics)} if metrics else {}


# ---- predict


def _picture_files(command: Command) -> list[str]:
    pictures = list(command.words)
    if not pictures:
        raise UserError("predict needs picture files: predict a.jpg b.png --workdir DIR")
    missing = [name for name in pictures if not Path(name).is_file()]
    if missing:
        raise UserError(f"no such picture file: {', '.join(missing[:5])}")
    return pictures


def _reads_pictures(experiment: Any) -> bool:
    return getattr(experiment.model, "image_encoder", None) is not None


def _check_words(
    pipeline: Any, text: str, where: str = "--question", kind: str = "question"
) -> None:
    """Says on stderr which words the model does not know; refuses a text of such words alone."""
    (tokenize,) = (t for t in pipeline.transforms if getattr(t, "output", None) == "text")
    tokenizer = tokenize.tokenizer
    if not hasattr(tokenizer, "words"):
        return
    words, known = tokenizer.words(text), set(tokenizer.vocabulary)
    unknown = [word for word in words if word not in known]
    named = []
    for word in dict.fromkeys(unknown):
        near = difflib.get_close_matches(word, known, n=1)
        named.append(f"{word} (nearest: {near[0]})" if near else word)
    if len(unknown) == len(words):
        given = ", ".join(named) if named else "no word"
        raise UserError(f"{where}: none of its words was in the training {kind}s: {given}")
    if unknown:
        print(f"words that were not in the training {kind}s: {', '.join(named)}", file=sys.stderr)
    room = tokenize.max_length - 2  # begin and end
    if len(words) > room:
        print(f"the {kind} is cut after its first {room} words", file=sys.stderr)


def _predicting(experiment: Any) -> Any:
    """The first evaluation that predicts: its preprocessing is that of what is given on the command line."""
    for evaluation in experiment.evaluations:
        if evaluation.predict:
            return evaluation
    raise UserError("this experiment has no evaluation to take its preprocessing from")


def _text_key(pipeline: Any) -> str | None:
    """What the text that the model reads is called in an example: the key of the transform that writes `text` (or
    `prompt`, which a language model goes on from). None for a model that reads pictures."""
    for transform in pipeline.transforms:
        if getattr(transform, "output", None) in ("text", "prompt"):
            return transform.key
    return None


def _over_texts(pipeline: Any, texts: Sequence[str]) -> Any:
    """The pipeline reading these texts instead: its i-th example is the i-th of them."""
    from vlm_jax.data.source import Rows

    key = _text_key(pipeline)
    source = Rows(names=(key,), rows=tuple((text,) for text in texts))
    return dataclasses.replace(
        _reading(pipeline, source),
        transforms=_for_keys(pipeline.transforms, key),
        batch_size=min(pipeline.batch_size, max(8, len(texts))),
    )


def _lines_of(file: str | None) -> list[str]:
    if file is None:
        return []
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"--file: {error}") from None
    lines = data.decode("utf-8-sig", "replace").split("\n")
    return [line.rstrip("\r") for line in (lines if lines[-1] else lines[:-1])]


def _jsonable(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _over_pictures(
    pipeline: Any, pictures: Sequence[str], question: str | None = None
) -> tuple[Any, list[str]]:
    """The pipeline reading the pictures instead, each with the question, and those that can be read.

    Its i-th example is the i-th of these. The others are named on stderr.
    """
    from vlm_jax.data.source import Pictures

    _check_statistics(pipeline)
    bad = _unreadable(_reading(pipeline, Pictures(paths=tuple(pictures))))
    for index, reason in bad.items():
        print(f"skipped {pictures[index]}: {reason}", file=sys.stderr)
    good = [name for index, name in enumerate(pictures) if index not in bad]
    if not good:
        raise UserError("none of the pictures can be read")
    pipeline = _reading(pipeline, Pictures(paths=tuple(good), question=question))
    size = min(pipeline.batch_size, max(8, len(good)))
    transforms = _for_keys(pipeline.transforms, "image", "image_name", "question")
    return dataclasses.replace(pipeline, transforms=transforms, batch_size=size), good


def _reading(holder: Any, new: Any) -> Any:
    """The pipeline, or a source in it, over all of `new`, each example once. The old source is not opened."""
    from vlm_jax.data.sampling import First

    if not hasattr(holder, "source"):
        return new
    inner = _reading(holder.source, new)
    if isinstance(holder, First) or hasattr(holder, "needs_texts"):
        return inner
    return dataclasses.replace(holder, source=inner)


def _for_keys(transforms: Sequence[Any], key: str, *others: str) -> tuple[Any, ...]:
    """Without those that read what a picture or a text alone does not have: its caption, its label, its target."""
    known, kept = {"id", key, *others}, []
    for transform in transforms:
        if getattr(transform, "key", key) not in known:
            continue
        if hasattr(transform, "keys"):
            keys = tuple(key for key in transform.keys if key in known)
            transform = dataclasses.replace(transform, keys=keys)
        kept.append(transform)
        known.add(getattr(transform, "output", key))
    return tuple(kept)


def _unreadable(pipeline: Any) -> dict[int, str]:
    """Index -> reason, for the pictures that cannot be decoded: here one bad file must not stop the others."""
    import numpy as np

    from vlm_jax.data.image_transforms import BadImage

    holder, transforms = pipeline, ()
    while hasattr(holder, "source"):  # the innermost ones see the pictures
        transforms = getattr(holder, "transforms", transforms)
        holder = holder.source
    bad = {}
    for index in range(len(holder)):
        example = holder[index]
        try:
            for transform in _for_keys(transforms, "image", "image_name"):
                example = transform(example, np.random.default_rng(0))
        except BadImage as error:
            bad[index] = error.reason
    return bad


def _check_statistics(pipeline: Any) -> None:
    holder = pipeline
    while hasattr(holder, "source"):
        pictures = getattr(holder, "standardise", None)
        if pictures is not None and holder.statistics is None:
            try:
                len(pictures)
            except (OSError, ValueError) as error:
                raise UserError(
                    "predict: the features are standardised with mean and deviation of the training pictures, "
                    f"{pictures}, which are not here, and the workdir has no {STATISTICS}: {error}"
                ) from error
        holder = holder.source


def _attention_sheets(examples: Sequence[Any], names: Sequence[str], folder: Path) -> None:
    from vlm_jax.report import attention

    if not any("attention" in example for example in examples):
        raise UserError("--attention: this model has no attention over the picture to show")
    written = set()
    for example in examples:
        name = names[example["id"]]
        path = folder / f"{Path(name).stem}.png"
        if path in written:  # two folders with a picture of one name
            path = path.with_stem(f"{path.stem}-{example['id']}")
        image = attention.read_image(name)
        attention.attention_sheet(image, example["words"], example["attention"], path)
        written.add(path)
        print(f"wrote {path}", file=sys.stderr)


def _alignments(examples: Sequence[Any], folder: Path) -> None:
    from vlm_jax.report.alignment import alignment

    if not any("source_words" in example and "attention" in example for example in examples):
        raise UserError("--attention: this model has no attention over the text to show")
    for example in examples:
        if example["words"] and example["source_words"]:
            path = folder / f"{example['id']}.png"
            alignment(example["source_words"], example["words"], example["attention"], path)
            print(f"wrote {path}", file=sys.stderr)


def _nothing(*_: Any) -> None:
    """A report: with one, an evaluation keeps its examples."""


# ---- the words of the command line


def _parse(argv: Sequence[str], experiments: Sequence[Callable[[], Any]]) -> Command:
    home = inspect.getmodule(experiments[0])
    functions = {function.__name__: function for function in experiments}
    words, options, changes = [], {}, {}
    items = collections.deque(argv)
    while items:
        item = items.popleft()
        if item == "--":
            words += items
            break
        if item == "-h":
            item = "--help"
        if not item.startswith("--"):
            words.append(item)
            continue
        name, equals, value = item[2:].partition("=")
        kind = OPTIONS.get(name, ("VALUE", ""))[0]
        if kind is None and equals:
            raise UserError(f"--{name} takes no value, given {value}")
        if not equals and kind is not None:
            follows = bool(items) and not items[0].startswith("--")
            if kind == "[DIR]":
                follows = follows and items[0] not in (*functions, *VERBS)
            elif not follows:
                raise UserError(f"--{name} needs a value: --{name} {kind}")
            value = items.popleft() if follows else ""
        (options if name in OPTIONS else changes)[name] = value
    function = words.pop(0) if words and words[0] in functions else None
    verb = words.pop(0) if words and words[0] in VERBS else None
    if verb is None and "help" not in options:
        raise UserError(_no_verb(words, functions))
    arguments = _arguments(functions[function or next(iter(functions))], changes)
    return Command(
        module=home.__spec__.name if getattr(home, "__spec__", None) else Path(home.__file__).stem,
        doc=inspect.cleandoc(home.__doc__ or ""),
        functions=functions,
        argv=argv,
        verb=verb,
        function=function,
        words=words,
        options=options,
        changes={path: value for path, value in changes.items() if path not in arguments},
        arguments=arguments,
    )


def _arguments(function: Callable[..., Any], changes: Mapping[str, str]) -> dict[str, Any]:
    """What is typed for the function's own arguments, each of the kind of its default."""
    arguments = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in changes:
            kind = type(parameter.default)
            try:
                arguments[name] = kind(changes[name])
            except ValueError:
                raise UserError(
                    f"--{name}: given {changes[name]}, expected {kind.__name__}, as {parameter.default}"
                ) from None
    return arguments


def _no_verb(words: Sequence[str], functions: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(words[0], (*functions, *VERBS), n=1) if words else []
    return (
        f"expected [FUNCTION] and one of {', '.join(VERBS)}; given {words[0] if words else 'nothing'}"
        + (f", nearest: {near[0]}" if near else "")
        + f". Functions of this file: {', '.join(functions)}. Try --help"
    )


def _refuse_words(command: Command) -> None:
    if command.words:
        given = " ".join(command.words)
        order = f"; write {command.words[0]} {command.verb}"
        hint = order if command.words[0] in command.functions else ""
        raise UserError(f"{command.verb} takes no file names, given {given}{hint}")


def _changed(experiment: Any, changes: Mapping[str, str]) -> Any:
    for path, value in changes.items():
        try:
            experiment = config.override(experiment, {path: value})
        except KeyError as error:
            near = difflib.get_close_matches(path, OPTIONS, n=1, cutoff=0.75)
            if near and "Nearest" not in str(error):
                raise UserError(f"unknown option --{path}; nearest: --{near[0]}") from None
            raise UserError(str(error)) from None
        except (TypeError, ValueError) as error:
            raise UserError(str(error)) from error
    return experiment


def _is_message(error: Exception) -> bool:
    """Whether the error was written for the reader by this package; a traceback says more of any other."""
    import vlm_jax

    if isinstance(error, UserError):
        return True
    if not isinstance(error, ValueError | OSError | RuntimeError):
        return False
    innermost = error.__traceback__
    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    file = Path(innermost.tb_frame.f_code.co_filename)
    return file.is_relative_to(Path(vlm_jax.__file__).parent)


def _help(command: Command) -> str:
    width = 22
    lines = [
        f"usage: python -m {command.module} [FUNCTION] {'|'.join(VERBS)} [IMAGE or TEXT ...] --workdir DIR "
        "[--path value ...]",
        "",
        command.doc,
        "",
        "options:",
    ]
    for name, (value, meaning) in OPTIONS.items():
        lines.append(f"  {f'--{name} {value}' if value else f'--{name}':{width}s} {meaning}")
    lines += ["", "functions of this file (the first is the default):"]
    for name, function in command.functions.items():
        summary = (inspect.getdoc(function) or "").split("\n")[0]
        lines.append(f"  {name:{width}s} {summary}")
        for argument in inspect.signature(function).parameters.values():
            lines.append(f"  {'':{width}s} --{argument.name} {argument.default}")
    lines += ["", f"every path of {command.chosen} with its value; change it with --path value:"]
    lines += [f"  --{line}" for line in config.describe(command.build()).splitlines()]
    return "\n".join(lines)
