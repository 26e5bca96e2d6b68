"""The verb `predict`: what a run says of pictures, of texts, or of pictures with a question; or pictures of a prompt."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlm_jax.commands.command import Command, UserError
from vlm_jax.commands.given import check_words, picture_files, texts_of
from vlm_jax.commands.pipelines import (
    nothing,
    over_pictures,
    over_texts,
    predicting,
    predictions,
    text_key,
)
from vlm_jax.commands.workdirs import meant, trained, variables_of

SHOWN = 5  # answers with their probabilities


def predict(command: Command) -> None:
    """Prints a line for each picture or text that was given: a caption, a class, an answer, labels. Of a prompt it writes
    pictures."""
    from vlm_jax.commands import paint, two_towers

    if "prompt" in command.options:
        return paint.paint(command)
    paint.refuse_passed_over(command, paint.OURS, "is for --prompt alone")
    if "classes" in command.options:
        return two_towers.classify(command)
    experiment = meant(command)
    two_towers.refuse_alone(experiment)
    paint.refuse_alone(experiment)
    reads_texts = text_key(predicting(experiment).data) is not None
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
    pictures = picture_files(command)
    experiment, workdir = trained(command)
    pipeline, good = over_pictures(predicting(experiment).data, pictures)
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
    pictures = picture_files(command)
    experiment, workdir = trained(command)
    pipeline = predicting(experiment).data
    if not _reads_pictures(experiment):
        raise UserError(
            f"the model in {workdir} reads no picture, only the question: write its function, "
            "then predict 'a question', without a picture"
        )
    check_words(pipeline, question)
    pipeline, good = over_pictures(pipeline, pictures, question)
    examples = _predicted(command, experiment, pipeline, workdir)
    for example in examples:
        name, answer = good[example["id"]], example["prediction"]
        known = {"file": name, "question": question, "answer": answer}
        if "probabilities" not in example:  # written, not chosen
            known["log_prob"] = example["log_prob"]
            as_json = json.dumps(known, ensure_ascii=False)
            print(as_json if "json" in command.options else f"{name}\t{answer}")
            continue
        found = sorted(example["probabilities"].items(), key=lambda pair: -pair[1])
        probabilities = dict(found[:SHOWN])
        if "json" in command.options:
            print(json.dumps({**known, "probabilities": probabilities}, ensure_ascii=False))
        else:
            shown = ", ".join(f"{each} {p:.1%}" for each, p in probabilities.items())
            print(f"{name}\t{answer}\t{shown}")
    if "attention" in command.options:
        _attention_sheets(examples, good, Path(command.options["attention"]))


def _predict_texts(command: Command) -> None:
    texts = texts_of(command)
    if not texts:
        raise UserError(
            "predict needs texts: predict 'a text' 'another' --workdir DIR, or --file FILE"
        )
    experiment, workdir = trained(command)
    evaluation = predicting(experiment)
    pipeline = over_texts(evaluation.data, texts)
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

    variables, _ = variables_of(workdir, command.options.get("step"))
    over = Evaluation(name="predict", data=pipeline, loss=False, reports=(nothing,))
    task = predicting(experiment).task or experiment.task
    if hasattr(task, "metrics"):  # there is nothing to compare with
        task = dataclasses.replace(task, metrics=())
    model = experiment.model
    if "int8" in command.options:
        from vlm_jax.train.int8 import in_int8

        batch = dict(next(iter(pipeline.batches()))[1])
        model, variables = in_int8(model, variables, predictions(task, batch))
    return evaluate(over, model, task, variables, seed=experiment.seed).examples


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


def _jsonable(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _reads_pictures(experiment: Any) -> bool:
    return getattr(experiment.model, "image_encoder", None) is not None
