"""One model of pictures and text that writes captions, and is fine-tuned to answer questions, in words, after a prompt.

    python -m experiments.finetune_vqa captions train --workdir runs/vlm
    python -m experiments.finetune_vqa lora train --start runs/vlm --workdir runs/vlm_lora
    python -m experiments.finetune_vqa whole train --start runs/vlm --workdir runs/vlm_whole
    python -m experiments.finetune_vqa scenes train --workdir runs/vlm_scratch
    python -m experiments.finetune_vqa lora predict IMAGE --question "what color is the circle" --workdir runs/vlm_lora

In the form of PaliGemma (Beyer et al. 2024, arXiv 2407.07726), small: the places of the picture, projected, stand before
the text and see each other, the text is written by a decoder such as Gemma's. The pictures are those made here.

captions   the captioner, from drawn weights.
scenes     questions of seven types, from drawn weights. The prompt is the question; the answer and its end are learned.
whole      the same, from the captioner on.
lora       the same, from the captioner on, which stays: low-rank updates of every linear layer (Hu et al. 2021, arXiv
           2106.09685) are all that is trained, and with their moments all that each checkpoint holds.

Departures from PaliGemma: the prompt sees only what comes before it; a small CNN in place of SigLIP; nothing is as large.
There is no number of a paper for this size.
"""

import dataclasses
import sys

import flax.linen as nn

from experiments import answerers, captioners, datasets, questions
from vlm_jax import config
from vlm_jax.data.prompted import Prompt, TokenizeAnswer
from vlm_jax.data.source import Tfds
from vlm_jax.data.text_transforms import Keep, Label, Tokenize
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.language.transformer import Form, Layer, TransformerDecoder
from vlm_jax.layers.norm import RMSNorm
from vlm_jax.layers.positions import Rotary
from vlm_jax.main import main
from vlm_jax.models.generator import Generator
from vlm_jax.tasks.generation import Generation
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.from_run import FromRun
from vlm_jax.train.lora import Lora
from vlm_jax.train.optimizers import AdamW, WarmupCosine

CITATION = "Beyer et al. 2024; Hu et al. 2021"
PAPER = {"scenes": {}, "whole": {}, "lora": {}}
MAX_QUESTION, MAX_ANSWER = 17, 2  # tokens with BOS, and with EOS


def captions(epochs: int = 12) -> Experiment:
    """The captioner that the others begin from."""
    words = _words()
    data = config.transform(
        datasets.scenes(batch_size=64),
        lambda node: words if isinstance(node, WordTokenizer) else node,
    )
    num_steps = epochs * 24_000 // 64
    experiment = captioners.captioner(data, _model(words), beam=3, num_steps=num_steps)
    return dataclasses.replace(experiment, optimizer=_adam_w(num_steps, 1e-3))


def scenes(epochs: int = 6) -> Experiment:
    """Questions in place of captions, from drawn weights."""
    words = _words()
    data = _prompted(questions.scenes(batch_size=64), words)
    return _answering(data, words, _model(words), epochs * answerers.SCENES // 64, peak=1e-3)


def whole(start: str = "runs/vlm", epochs: int = 3) -> Experiment:
    """Questions, from the captioner of the run `start` on."""
    experiment = scenes(epochs)
    return dataclasses.replace(
        experiment,
        init_params=FromRun(workdir=start, tokenizer=_words()),
        optimizer=_adam_w(experiment.num_steps, 3e-4),
    )


def lora(start: str = "runs/vlm", epochs: int = 3, rank: int = 8) -> Experiment:
    """Questions, by low-rank updates of the captioner of the run `start`."""
    experiment = whole(start, epochs)
    return dataclasses.replace(
        experiment,
        model=Lora(model=experiment.model, rules=(r"kernel$",), rank=rank, alpha=2.0 * rank),
        optimizer=_adam_w(experiment.num_steps, 2e-3),
    )


def smoke() -> Experiment:
    """Two steps of low-rank updates, tiny."""
    words = _words("tiny")
    data = _prompted(questions.scenes(batch_size=4, config="tiny"), words)
    model = Lora(model=_model(words, 8, 1, 2, (4, 4, 4)), rules=(r"kernel$",), rank=2)
    return answerers.smoke(_answering(data, words, model, 2, peak=1e-3))


def _words(pictures: str | None = None) -> WordTokenizer:
    """Of captions, questions and answers, so that a row means the same word in all of them."""
    corpus = Tfds("scenes", "train", config=pictures)
    texts = ("captions", "questions", "answers")
    return WordTokenizer(corpus=corpus, vocab_size=128, texts=texts)


def _prompted(data: questions.QuestionData, words: WordTokenizer) -> questions.QuestionData:
    """The question as a prompt and the answer as text, in place of a text to read and a class."""
    prompt = Prompt(tokenizer=words, length=MAX_QUESTION)
    answer = TokenizeAnswer(prompt=prompt, max_length=MAX_QUESTION + MAX_ANSWER)

    def changed(pipeline):
        kept = [t for t in pipeline.transforms if not isinstance(t, Tokenize | Label | Keep)]
        keep = Keep(keys=("image", "prompt", "target", "predicted"))
        return dataclasses.replace(pipeline, transforms=(*kept, prompt, answer, keep))

    held_out = {name: changed(pipeline) for name, pipeline in data.held_out.items()}
    return dataclasses.replace(data, train=changed(data.train), held_out=held_out)


def _model(
    words: WordTokenizer,
    width: int = 128,
    num_layers: int = 4,
    num_heads: int = 4,
    features: tuple[int, ...] = (32, 64, 128),
) -> Generator:
    decoder = TransformerDecoder(
        vocab_size=words.vocab_size,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=1,
        hidden=4 * width,
        activation=nn.gelu,
        norm=RMSNorm(),
        prefix=True,
        form=Form(use_bias=False, gated=True, add_places=False, output_bias=False),
        layers=(Layer(rotary=Rotary()),),
    )
    return Generator(decoder=decoder, image_encoder=captioners.scene_encoder(features))


def _answering(
    data: questions.QuestionData,
    words: WordTokenizer,
    model: Generator | Lora,
    num_steps: int,
    *,
    peak: float,
) -> Experiment:
    every = -(-num_steps // 6)
    evaluations = tuple(
        dataclasses.replace(evaluation, reports=()) for evaluation in data.evaluations(every=every)
    )
    return Experiment(
        model=model,
        task=Generation(
            tokenizer=words, decoding=Greedy(max_length=MAX_ANSWER), metrics=data.metrics
        ),
        train_data=data.train,
        num_steps=num_steps,
        optimizer=_adam_w(num_steps, peak),
        evaluations=evaluations,
        best=Best(metric="validation/accuracy"),
        checkpoint_every=every,
    )


def _adam_w(num_steps: int, peak: float) -> AdamW:
    """A twentieth of the steps to warm up, then a cosine."""
    rate = WarmupCosine(peak=peak, warmup_steps=num_steps // 20, num_steps=num_steps)
    return AdamW(learning_rate=rate, weight_decay=0.01, clip_norm=1.0)


if __name__ == "__main__":
    sys.exit(main(scenes, captions, whole, lora, smoke))
