"""The pictures made here for models of PaliGemma's form: a prompt with places for the picture, then a question's answer or a
caption. All with the same words, so that a model of the one goes on with the other."""

import dataclasses
from typing import Any

from experiments.datasets import SCALE, held_scenes
from vlm_jax.data.datasets.scenes_questions import AskAnew
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.prompted import Prompt, TokenizeAnswer
from vlm_jax.data.questions import EachQuestion
from vlm_jax.data.sampling import EachCaption
from vlm_jax.data.source import Source
from vlm_jax.data.text_transforms import FirstCaption, Keep
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained import paligemma
from vlm_jax.pretrained.settings import Settings
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.from_run import FromRun
from vlm_jax.train.lora import Lora
from vlm_jax.train.optimizers import AdamW, WarmupCosine

VOCAB_SIZE, IMAGE = 128, 127  # 108 ends a prompt, as in Gemma's vocabulary; no word has these rows
LINEAR = r"^decoder/blocks_\d+/(self_attention/(query|key|value|output)|mlp/\w+)/kernel$"
SEEING = (
    r"^image_encoder/block_\d+/(attention/(query|key|value|output)|mlp/\w+)/kernel$",
    r"^fusion/projection/kernel$",
)
WORDS = r"^decoder/embedding/words/table$"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptedScenes:
    """`train` yields target and predicted; of `held_out`, by split, prompt too, and one row a question or a picture."""

    tokenizer: Any
    max_answer: int  # tokens of an answer, with EOS
    train: Pipeline
    held_out: dict[str, Pipeline]


def answers(
    *, batch_size: int, places: int, config: str | None = None, max_answer: int = 2
) -> PromptedScenes:
    """Questions of seven types, answers of one word, with room for `max_answer` tokens with EOS."""
    pictures = held_scenes(config)
    sources = {split: EachQuestion(source) for split, source in pictures.items()}
    prompt = _prompt(pictures["train"].source, "<image><bos>{question}", places, 18)
    return _prompted(sources, sources["train"], (), prompt, "answer", max_answer, batch_size)


def asking(pipeline: Pipeline, anew: AskAnew) -> Pipeline:
    """One of `answers` with questions drawn anew in place of the stored ones."""
    return dataclasses.replace(pipeline, transforms=(anew, *pipeline.transforms))


def listings(data: PromptedScenes) -> dict[str, Pipeline]:
    """What all is in the held-out pictures of `answers`, by split, one row a picture."""
    listed = AskAnew(shares=(("listing", 1.0),))
    return {
        split: asking(dataclasses.replace(pipeline, source=pipeline.source.source), listed)
        for split, pipeline in data.held_out.items()
    }


def captions(*, batch_size: int, places: int, config: str | None = None) -> PromptedScenes:
    """Captions, whose prompt is the picture and BOS."""
    sources = held_scenes(config)
    prompt = _prompt(sources["train"].source, "<image><bos>", places, 2)
    train = EachCaption(sources["train"])
    return _prompted(sources, train, (FirstCaption(),), prompt, "caption", 35, batch_size)


def model(
    *, width: int, num_layers: int, num_heads: int, image_size: int, patch_size: int
) -> Generator:
    """PaliGemma as a config.json of this size would have it."""
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "image_size": image_size,
        "patch_size": patch_size,
    }
    text = {
        "model_type": "gemma",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "num_key_value_heads": 1,
        "head_dim": max(width // num_heads, 2),
    }
    found = {"vision_config": vision, "text_config": text, "image_token_index": IMAGE}
    return paligemma.read(Settings(found)).model


def small() -> Generator:
    """A million parameters, 64 places."""
    return model(width=96, num_layers=4, num_heads=4, image_size=64, patch_size=8)


def adapted(
    model: Generator, rank: int, rules: tuple[str, ...] = (LINEAR,), trained: tuple[str, ...] = ()
) -> Lora:
    """Low-rank updates of the layers that the `rules` find, of the text where nothing else is said; what is `trained`, whole."""
    return Lora(model=model, rules=rules, trained=trained, rank=rank, alpha=2.0 * rank)


def begun(experiment: Experiment, start: str, *, peak: float) -> Experiment:
    """From the run in the folder `start` on; from drawn weights where that is ""."""
    words = experiment.task.tokenizer
    return dataclasses.replace(
        experiment,
        init_params=FromRun(workdir=start, tokenizer=words) if start else None,
        optimizer=adam_w(experiment.num_steps, peak=peak),
    )


def adam_w(num_steps: int, *, peak: float) -> AdamW:
    """A twentieth of the steps to warm up, then a cosine."""
    rate = WarmupCosine(peak=peak, warmup_steps=num_steps // 20, num_steps=num_steps)
    return AdamW(learning_rate=rate, weight_decay=0.01, clip_norm=1.0)


def _prompt(corpus: Source, template: str, places: int, words: int) -> Prompt:
    tokenizer = WordTokenizer(
        corpus=corpus,
        vocab_size=VOCAB_SIZE,
        texts=("captions", "questions", "answers"),
    )
    return Prompt(
        tokenizer=tokenizer,
        template=template,
        length=places + words,
        image_token=IMAGE,
        num_images=places,
        end_token=paligemma.LINE_BREAK,
    )


def _prompted(
    sources: dict[str, Source],
    train: Source,
    first: tuple,
    prompt: Prompt,
    key: str,
    max_answer: int,
    batch_size: int,
) -> PromptedScenes:
    answer = TokenizeAnswer(prompt=prompt, max_length=prompt.length + max_answer, key=key)
    return pipelines(
        prompt.tokenizer,
        sources,
        train,
        before=(SCALE,),
        first=first,
        asked=(prompt,),
        answered=(answer,),
        keys=("image", "target", "predicted"),
        max_answer=max_answer,
        batch_size=batch_size,
        eval_batch_size=100,
    )


def pipelines(
    tokenizer: Any,
    sources: dict[str, Source],
    train: Source,
    *,
    before: tuple,
    first: tuple,
    asked: tuple,
    answered: tuple,
    keys: tuple[str, ...],
    max_answer: int,
    batch_size: int,
    eval_batch_size: int,
) -> PromptedScenes:
    """Over `train` and the `sources` but theirs: `before` of the picture, `answered` of the text, of which `keys` stay; of held-out
    examples `first` makes one text, and `asked` what is given where nobody has the answer, which stays too."""

    def pipeline(source: Source, *transforms: Any, train: bool = False) -> Pipeline:
        kept = keys if train else (*keys, *(each.output for each in asked))
        return Pipeline(
            source=source,
            transforms=(*before, *transforms, *answered, Keep(keys=kept)),
            batch_size=batch_size if train else eval_batch_size,
            train=train,
            num_workers=1,
        )

    held_out = {
        split: pipeline(source, *first, *asked)
        for split, source in sources.items()
        if split != "train"
    }
    return PromptedScenes(
        tokenizer=tokenizer,
        max_answer=max_answer,
        train=pipeline(train, train=True),
        held_out=held_out,
    )
