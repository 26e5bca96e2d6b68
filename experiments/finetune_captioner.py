"""Captioners of published families, fine-tuned.

    python -m experiments.finetune_captioner scenes train --workdir runs/vit_gpt2
    python -m experiments.finetune_captioner mobilenet train --workdir runs/finetuned
    python -m experiments.finetune_captioner mobilenet_frozen train --workdir runs/frozen
    python -m experiments.finetune_captioner paligemma_lora train --start runs/paligemma_mixture --workdir runs/lora

scenes            the family of a ViT that GPT-2 looks at (pretrained/vision_encoder_decoder.py), small, from drawn weights,
                  on the pictures made here.
mobilenet         Flickr8k from pixels: MobileNetV2 with its ImageNet weights, trained along at a tenth of the rate, below
                  a Transformer decoder.
mobilenet_frozen  the same with the network as it is, its 7x7 grid computed anew for every view that is drawn.
paligemma         a model of PaliGemma's form (Beyer et al. 2024), small, from drawn weights, on the pictures made here.
paligemma_lora    a model of PaliGemma's form that lists what it sees and answers questions (finetune_vqa mixture) and never read a
                  caption learns to write them by low-rank updates of all linear layers, of its text and of what it sees, rank
                  16, and by the vectors of words: 258 of 1,275 thousand parameters (Hu et al. 2021).
published         any family that writes about pictures, from published weights: --weights DIR, --data scenes, flickr8k or coco_captions;
                  --adapt '/(query|value)/kernel$' trains low-rank updates of these layers alone, --rank 8. Record the results
                  of each folder of weights in one of its own (--record DIR): their names say nothing of it.

There is no number of a paper for these sizes.
"""

import dataclasses
import sys
from typing import Any

from experiments import captioners, datasets, prompted_scenes, published_models
from experiments.captioners import NUM_PAIRS, captioner
from experiments.prompted_scenes import PromptedScenes
from vlm_jax.data.sampling import EachCaption
from vlm_jax.data.text_transforms import FirstCaption
from vlm_jax.decoding.beam_search import BeamSearch
from vlm_jax.language.transformer import TransformerDecoder
from vlm_jax.main import main
from vlm_jax.metrics.captioning import CaptionMetrics
from vlm_jax.metrics.scene_facts import SceneFacts
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained import vision_encoder_decoder
from vlm_jax.pretrained.mobilenet import MobileNetV2Weights
from vlm_jax.pretrained.settings import Settings
from vlm_jax.report.gallery import Gallery
from vlm_jax.tasks.captioning import Captioning
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.types import BOS, PAD, UNK
from vlm_jax.vision.mobilenet import mobilenet_v2_folded

CITATION = "Li et al. 2023; Sandler et al. 2018"
PAPER = {
    "scenes": {},
    "mobilenet": {},
    "mobilenet_frozen": {},
    "paligemma": {},
    "paligemma_lora": {},
}
ENCODER = r"^image_encoder/"


def scenes(train_steps: int = 4500) -> Experiment:
    """The pictures made here: 64 patches of 8x8, four layers of 128, and as many of GPT-2."""
    data = datasets.scenes(batch_size=64)
    model = vit_and_gpt2(data, width=128, num_layers=4, num_heads=4, patch_size=8)
    experiment = captioner(data, model, beam=3, num_steps=train_steps)
    optimizer = prompted_scenes.adam_w(train_steps, peak=1e-3)
    return dataclasses.replace(experiment, optimizer=optimizer)


def mobilenet(epochs: int = 3) -> Experiment:
    """Flickr8k from pixels, the network trained along."""
    data = datasets.flickr8k_pixels(batch_size=64)
    model = Generator(
        image_encoder=mobilenet_v2_folded(),
        decoder=TransformerDecoder(
            vocab_size=data.tokenizer.vocab_size,
            width=256,
            num_layers=3,
            num_heads=4,
            hidden=1024,
            dropout_rate=0.3,
        ),
    )
    num_steps = epochs * NUM_PAIRS // 64
    experiment = captioner(
        data, model, beam=3, num_steps=num_steps, evaluations=epochs, label_smoothing=0.1
    )
    return dataclasses.replace(
        experiment,
        init_params=MobileNetV2Weights(scope="image_encoder"),
        optimizer=dataclasses.replace(
            prompted_scenes.adam_w(num_steps, peak=1e-3), rates=((ENCODER, 0.1),)
        ),
    )


def mobilenet_frozen(epochs: int = 3) -> Experiment:
    """Flickr8k from pixels, the network as it is."""
    experiment = mobilenet(epochs)
    optimizer = dataclasses.replace(experiment.optimizer, rates=(), frozen=(ENCODER,))
    return dataclasses.replace(experiment, optimizer=optimizer)


def paligemma(train_steps: int = 4500) -> Experiment:
    """The pictures made here, a model of PaliGemma's form from drawn weights."""
    data = prompted_scenes.captions(batch_size=64, places=64)
    return _captioning(data, prompted_scenes.small(), num_steps=train_steps)


def published(
    weights: str = "",
    data: str = "scenes",
    asked: str = "",
    epochs: int = 3,
    batch_size: int = 16,
    max_answer: int = 40,
    peak: float = 1e-4,
    adapt: str = "",
    rank: int = 0,
    revision: str = "",
) -> Experiment:
    """Any family of vlm_jax/pretrained that writes about pictures, from the folder `weights` on: on scenes, flickr8k or
    coco_captions, `asked` something ("caption en" unless given) where it wants to be; whole, or low-rank updates of the layers
    that the rule `adapt` finds."""
    found = published_models.opened(weights, revision)
    sources = published_models.records(data, published_models.CAPTIONS)
    pipelines = published_models.asked(
        found,
        sources,
        EachCaption(sources["train"]),
        first=(FirstCaption(),),
        question=asked,
        key="caption",
        max_answer=max_answer,
        batch_size=batch_size,
    )
    num_steps = epochs * published_models.CAPTIONS[data] // batch_size
    experiment = _captioning(pipelines, found.family.model, num_steps=num_steps, on=data)
    return published_models.begun(experiment, found, peak=peak, adapt=adapt, rank=rank)


def _captioning(
    data: PromptedScenes, model: Any, *, num_steps: int, on: str = "scenes"
) -> Experiment:
    """Evaluations eight times, the best facts or CIDEr kept."""
    every = -(-num_steps // 8)
    facts = (SceneFacts(),) if on == "scenes" else ()
    evaluations = tuple(
        Evaluation(
            name=split,
            data=pipeline,
            every=every if split == "validation" else None,
            loss=False,
            reports=(Gallery(source=pipeline.source, metrics=facts),),
        )
        for split, pipeline in data.held_out.items()
    )
    return Experiment(
        model=model,
        task=Captioning(
            tokenizer=data.tokenizer,
            decoding=BeamSearch(max_length=data.max_answer, width=3, banned=(PAD, BOS, UNK)),
            metrics=(CaptionMetrics(), *facts),
        ),
        train_data=data.train,
        num_steps=num_steps,
        optimizer=prompted_scenes.adam_w(num_steps, peak=1e-3),
        evaluations=evaluations,
        best=Best(metric="validation/facts_right" if facts else "validation/cider"),
        checkpoint_every=every,
    )


def paligemma_lora(
    start: str = "runs/paligemma_mixture", train_steps: int = 4500, rank: int = 16
) -> Experiment:
    """The same by low-rank updates of the run of finetune_vqa mixture in the folder `start`."""
    experiment = prompted_scenes.begun(paligemma(train_steps), start, peak=2e-3)
    rules = (prompted_scenes.LINEAR, *prompted_scenes.SEEING)
    adapted = prompted_scenes.adapted(experiment.model, rank, rules, (prompted_scenes.WORDS,))
    return dataclasses.replace(experiment, model=adapted)


def smoke() -> Experiment:
    """Two steps, tiny."""
    data = datasets.scenes(batch_size=4, config="tiny")
    model = vit_and_gpt2(data, width=8, num_layers=1, num_heads=2, patch_size=32)
    return captioners.smoke(captioner(data, model, beam=2, num_steps=2))


def vit_and_gpt2(
    data: datasets.CaptionData, *, width: int, num_layers: int, num_heads: int, patch_size: int
) -> Generator:
    """As a config.json of this size would have it."""
    encoder = {
        "model_type": "vit",
        "hidden_size": width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "intermediate_size": 4 * width,
        "image_size": 64,
        "patch_size": patch_size,
    }
    decoder = {
        "model_type": "gpt2",
        "vocab_size": data.tokenizer.vocab_size,
        "n_embd": width,
        "n_layer": num_layers,
        "n_head": num_heads,
        "n_positions": data.max_length,
        "resid_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }
    return vision_encoder_decoder.read(Settings({"encoder": encoder, "decoder": decoder})).model


if __name__ == "__main__":
    sys.exit(main(scenes, mobilenet, mobilenet_frozen, paligemma, paligemma_lora, published, smoke))
