"""Questions about pictures answered in words by a model of PaliGemma's form. Beyer et al. 2024, arXiv 2407.07726.

    python -m experiments.finetune_vqa scenes train --workdir runs/paligemma_vqa
    python -m experiments.finetune_vqa scenes evaluate --workdir runs/paligemma_vqa --record

The family of pretrained/paligemma.py, small, from drawn weights, on the pictures made here: the picture's 64 patches and the
question see all of each other, the answer is what is learned. From a published folder of that family, with its own
tokenizer, the same model comes by weights.load. What is learned here is what experiments/finetune_captioner.py goes on from.
"""

import sys

from experiments import answerers, prompted_scenes
from experiments.prompted_scenes import PromptedScenes
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.main import main
from vlm_jax.metrics.accuracy import Accuracy
from vlm_jax.metrics.by_kind import ByKind
from vlm_jax.models.generator import Generator
from vlm_jax.tasks.generation import Generation
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.optimizers import AdamW, WarmupCosine
from vlm_jax.types import BOS, PAD

CITATION = "Beyer et al. 2024"
PAPER = {"scenes": {}}


def scenes(epochs: int = 8) -> Experiment:
    """The pictures made here, questions of seven types."""
    data = prompted_scenes.answers(batch_size=64, places=64)
    model = prompted_scenes.model(width=96, num_layers=4, num_heads=4, image_size=64, patch_size=8)
    return answering(data, model, num_steps=epochs * answerers.SCENES // 64)


def smoke() -> Experiment:
    """Two steps, tiny."""
    data = prompted_scenes.answers(batch_size=4, places=4, config="tiny")
    model = prompted_scenes.model(width=8, num_layers=1, num_heads=2, image_size=64, patch_size=32)
    return answerers.smoke(answering(data, model, num_steps=2))


def answering(data: PromptedScenes, model: Generator, *, num_steps: int) -> Experiment:
    """AdamW with warm-up and cosine, validation eight times, the best accuracy kept."""
    right, every = Accuracy(reference="answer"), -(-num_steps // 8)
    evaluations = tuple(
        Evaluation(name=split, data=pipeline, every=every if split == "validation" else None)
        for split, pipeline in data.held_out.items()
    )
    rate = WarmupCosine(peak=1e-3, warmup_steps=num_steps // 20, num_steps=num_steps)
    return Experiment(
        model=model,
        task=Generation(
            tokenizer=data.tokenizer,
            decoding=Greedy(max_length=data.max_answer, banned=(PAD, BOS)),
            metrics=(right, ByKind(metric=right)),
        ),
        train_data=data.train,
        num_steps=num_steps,
        optimizer=AdamW(learning_rate=rate, weight_decay=0.01, clip_norm=1.0),
        evaluations=evaluations,
        best=Best(metric="validation/accuracy"),
        checkpoint_every=every,
    )


if __name__ == "__main__":
    sys.exit(main(scenes, smoke))
