"""Questions about pictures answered in words by a model of PaliGemma's form. Beyer et al. 2024, arXiv 2407.07726.

    python -m experiments.finetune_vqa scenes train --workdir runs/vqa
    python -m experiments.finetune_vqa scenes evaluate --workdir runs/vqa --record
    python -m experiments.finetune_vqa lora train --start runs/paligemma --workdir runs/vqa_lora
    python -m experiments.finetune_vqa lora predict IMAGE --question "what color is the circle" --workdir runs/vqa_lora

The family of pretrained/paligemma.py, small, on the pictures made here: the picture's 64 patches and the question see all of
each other, the answer and its end are what is learned. From a published folder of that family, with its own tokenizer, the
same model comes by weights.load.

scenes   questions of seven types, from drawn weights.
mixture  from drawn weights too: three times of four the question is what all is in the picture, and where, else any of the
         seven types, drawn anew; as PaliGemma is trained on a mixture with detection before it is tuned for one thing. No captions are in it:
         experiments/finetune_captioner.py goes on from it.
whole    the same, from a captioner on (finetune_captioner.paligemma).
lora     the same, from a captioner on, which stays: low-rank updates of the linear layers of its text (Hu et al. 2021, arXiv
         2106.09685) are all that is trained, and with their moments all that each checkpoint holds.
published  any family that is asked about pictures, from published weights: --weights DIR, --data scenes, daquar or vqa_v2; --adapt
         '/(query|value)/kernel$' trains low-rank updates of these layers alone, --rank 8. Record the results of each folder of
         weights in one of its own (--record DIR): their names say nothing of it.
"""

import dataclasses
import sys

from experiments import answerers, prompted_scenes, published_models, questions
from experiments.prompted_scenes import PromptedScenes
from vlm_jax.commands.command import UserError
from vlm_jax.data.datasets.scenes_questions import AskAnew
from vlm_jax.data.questions import EachQuestion
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.main import main
from vlm_jax.metrics.accuracy import Accuracy
from vlm_jax.metrics.base import Metric
from vlm_jax.metrics.by_kind import ByKind
from vlm_jax.models.generator import Generator
from vlm_jax.tasks.generation import Generation
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.lora import Lora
from vlm_jax.types import BOS, PAD

CITATION = "Beyer et al. 2024; Hu et al. 2021"
PAPER = {"scenes": {}, "mixture": {}, "whole": {}, "lora": {}}
MAX_LISTING = 24  # tokens of four objects, with EOS


def scenes(epochs: int = 8) -> Experiment:
    """The pictures made here, questions of seven types."""
    data = prompted_scenes.answers(batch_size=64, places=64)
    return answering(data, prompted_scenes.small(), num_steps=epochs * answerers.SCENES // 64)


def mixture(train_steps: int = 9300, stop: int = 2326) -> Experiment:
    """Questions drawn anew, three of four for all that is in the picture; the first `stop` steps of so many. The loss of held-out
    pictures is that of their listing."""
    data = prompted_scenes.answers(batch_size=32, places=64, max_answer=MAX_LISTING)
    drawn = prompted_scenes.asking(data.train, AskAnew(shares=(("listing", 0.75),)))
    data = dataclasses.replace(data, train=drawn)
    experiment = answering(data, prompted_scenes.small(), num_steps=train_steps)
    listings = prompted_scenes.listings(data)
    asked = tuple(dataclasses.replace(each, loss=False) for each in experiment.evaluations)
    listed = tuple(
        Evaluation(
            name=f"{each.name}_listing",
            data=listings[each.name],
            every=each.every,
            predict=False,
        )
        for each in asked
    )
    return dataclasses.replace(
        experiment,
        num_steps=stop,
        evaluations=(*asked, *listed),
        best=Best(metric="validation_listing/token_accuracy"),
    )


def whole(start: str = "runs/paligemma", epochs: int = 3) -> Experiment:
    """Questions, from the captioner of the run `start` on."""
    return prompted_scenes.begun(scenes(epochs), start, peak=3e-4)


def lora(start: str = "runs/paligemma", epochs: int = 3, rank: int = 8) -> Experiment:
    """Questions, by low-rank updates of the captioner of the run `start`."""
    experiment = prompted_scenes.begun(scenes(epochs), start, peak=2e-3)
    adapted = prompted_scenes.adapted(experiment.model, rank)
    return dataclasses.replace(experiment, model=adapted)


def published(
    weights: str = "",
    data: str = "scenes",
    epochs: int = 3,
    batch_size: int = 16,
    max_question: int = 24,
    max_answer: int = 8,
    peak: float = 1e-4,
    adapt: str = "",
    rank: int = 0,
    revision: str = "",
) -> Experiment:
    """Any family of vlm_jax/pretrained that is asked about pictures, from the folder `weights` on: on scenes, daquar or vqa_v2; whole,
    or low-rank updates of the layers that the rule `adapt` finds."""
    found = published_models.opened(weights, revision)
    if found.family.template is None and getattr(found.family.model, "text_encoder", None) is None:
        raise UserError(f"--weights: {weights} only captions; try finetune_captioner published")
    config = "single" if data == "daquar" else None
    splits = published_models.records(data, published_models.QUESTIONS, config)
    sources = {split: EachQuestion(source) for split, source in splits.items()}
    pipelines = published_models.asked(
        found,
        sources,
        sources["train"],
        question="{question}",
        words=max_question,
        key="answer",
        max_answer=max_answer,
        batch_size=batch_size,
    )
    num_steps = epochs * published_models.QUESTIONS[data] // batch_size
    if data == "vqa_v2":
        held = {"metrics": questions.VQA, "best": "vqa_accuracy"}
    else:
        held = {"metrics": letter_by_letter(spaces="_" if data == "daquar" else "")}
    experiment = answering(pipelines, found.family.model, num_steps=num_steps, **held)
    return published_models.begun(experiment, found, peak=peak, adapt=adapt, rank=rank)


def smoke() -> Experiment:
    """Two steps of low-rank updates, tiny."""
    data = prompted_scenes.answers(batch_size=4, places=4, config="tiny")
    model = prompted_scenes.model(width=8, num_layers=1, num_heads=2, image_size=64, patch_size=32)
    model = prompted_scenes.adapted(model, rank=2)
    return answerers.smoke(answering(data, model, num_steps=2))


def letter_by_letter(spaces: str = "") -> tuple[Metric, ...]:
    """The share of right answers, and of each kind of question; `spaces` is Accuracy's."""
    right = Accuracy(reference="answer", spaces=spaces)
    return right, ByKind(metric=right)


def answering(
    data: PromptedScenes,
    model: Generator | Lora,
    *,
    num_steps: int,
    metrics: tuple[Metric, ...] = letter_by_letter(),
    best: str = "accuracy",
) -> Experiment:
    """AdamW with warm-up and cosine, validation eight times, the `best` of the metrics' numbers kept."""
    every = -(-num_steps // 8)
    evaluations = tuple(
        Evaluation(name=split, data=pipeline, every=every if split == "validation" else None)
        for split, pipeline in data.held_out.items()
    )
    return Experiment(
        model=model,
        task=Generation(
            tokenizer=data.tokenizer,
            decoding=Greedy(max_length=data.max_answer, banned=(PAD, BOS)),
            metrics=metrics,
        ),
        train_data=data.train,
        num_steps=num_steps,
        optimizer=prompted_scenes.adam_w(num_steps, peak=1e-3),
        evaluations=evaluations,
        best=Best(metric=f"validation/{best}"),
        checkpoint_every=every,
    )


if __name__ == "__main__":
    sys.exit(main(scenes, mixture, whole, lora, published, smoke))
