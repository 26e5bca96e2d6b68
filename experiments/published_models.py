"""A published model of pictures and words on our data: what finetune_captioner.published and finetune_vqa.published share."""

import dataclasses
import sys
from collections.abc import Callable, Iterable
from typing import Any

from experiments import answerers, prompted_scenes
from experiments.captioners import NUM_PAIRS
from experiments.prompted_scenes import PromptedScenes
from vlm_jax.commands.command import UserError
from vlm_jax.data.prompted import Prompt, TokenizeAnswer
from vlm_jax.data.source import Source, Tfds
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.pretrained import processors, prompts
from vlm_jax.pretrained.folder import open_folder
from vlm_jax.pretrained.settings import Family
from vlm_jax.pretrained.weights import PublishedWeights, of_all_rows, read, tokenizer_of
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.lora import Lora

COCO_PAIRS = 414_113  # of the 82,783 pictures of Karpathy's train
CAPTIONS = {"scenes": 40_000, "flickr8k": NUM_PAIRS, "coco_captions": COCO_PAIRS}  # to train on
QUESTIONS = {
    "scenes": answerers.SCENES,
    "daquar": answerers.DAQUAR,
    "vqa_v2": answerers.VQA_V2,
}
SPLITS = {
    "scenes": ("train", "validation", "test", "test_unseen"),
    "flickr8k": ("train", "validation", "test"),
    "coco_captions": ("train", "validation", "test"),
    "daquar": ("train", "validation", "test"),
    "vqa_v2": ("train", "validation"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """A folder in Hugging Face's layout, or owner/name at the commit `revision`: all but its weights."""

    weights: str
    revision: str | None
    family: Family
    tokenizer: Any
    transforms: tuple  # from a picture's file to what the model reads

    @property
    def init_params(self) -> PublishedWeights:
        return PublishedWeights(
            folder=self.weights, revision=self.revision, tokenizer=self.tokenizer
        )


def opened(weights: str, revision: str = "") -> Opened:
    """An error in words where the folder has no tokenizer or no preprocessor, or its model does not write about pictures."""
    if not weights:
        raise UserError(
            "--weights: given nothing, expected a folder in Hugging Face's layout or owner/name; try --weights DIR"
        )
    folder = open_folder(weights, revision or None)
    tokenizer = tokenizer_of(folder)
    if tokenizer is None or folder.preprocessor is None:
        missing = "tokenizer.json" if tokenizer is None else "preprocessor_config.json"
        raise UserError(f"--weights: {weights} has no {missing}, which its texts or pictures need")
    family, ignored = read(folder, tokenizer)
    say_ignored(weights, ignored)
    prompts.check(family, f"--weights: {weights}")
    transforms = processors.transforms(folder.preprocessor, folder.config.get("model_type"))
    return Opened(
        weights=weights,
        revision=revision or None,
        family=family,
        tokenizer=of_all_rows(tokenizer, family),
        transforms=transforms,
    )


def say_ignored(weights: str, ignored: Iterable[str]) -> None:
    """On stderr: whoever knows the file knows whether something of it is missed."""
    if ignored:
        print(
            f"{weights}: of config.json nothing was made of {', '.join(ignored)}", file=sys.stderr
        )


def records(data: str, known: Iterable[str], config: str | None = None) -> dict[str, Source]:
    """The splits of a dataset by its name."""
    if data not in known:
        raise UserError(f"--data: given {data}, expected one of {', '.join(known)}")
    return {split: Tfds(data, split, config=config) for split in SPLITS[data]}


def asked(
    found: Opened,
    sources: dict[str, Source],
    train: Source,
    *,
    first: tuple = (),
    question: str = prompts.QUESTION,
    words: int = 0,
    key: str,
    max_answer: int,
    batch_size: int,
) -> PromptedScenes:
    """Pipelines over `train` and the held-out `sources`: the pictures as the model wants them, what it is asked in the form
    that its weights were trained on, and its answer, the text at `key`, of at most `max_answer` tokens with EOS.

    `first` makes one example of a held-out one. What is asked is the example's "question", of at most so many `words` (tokens;
    where the question is read beside the picture, a longer one is cut, elsewhere such an example is left out), or another
    `question`, the same for all, "" being "caption en" where something has to be asked.
    """
    captions = question != prompts.QUESTION
    if captions and found.family.template is None and question:
        raise UserError(f"--asked: {found.weights} only captions; leave it out")
    question = question or "caption en"
    prompt = prompts.prompt_of(
        found.family,
        found.tokenizer,
        found.transforms,
        words=len(found.tokenizer.encode(question)) if captions else words,
        question=question,
    )
    if isinstance(prompt, Prompt):
        length, given = max_answer + prompt.length, (prompt,)
        answered: tuple = (
            TokenizeAnswer(prompt=prompt, max_length=length, max_answer=max_answer, key=key),
        )
        keys: tuple[str, ...] = ("image", "target", "predicted")
    else:
        length, given = max_answer + 1, ()
        answered = (Tokenize(tokenizer=found.tokenizer, max_length=length, key=key),)
        keys = ("image", "target")
    if isinstance(prompt, Tokenize):  # read beside the picture
        answered, keys = (prompt, *answered), ("image", "text", "target")
        _check_positions(
            found,
            f"--max_question: given {words}, and two more",
            prompt.max_length,
            found.family.model.text_encoder,
            lambda most: f"--max_question {most - 2}",
        )
    _check_positions(
        found,
        f"--max_answer: given {max_answer}, with what stands before it {length} tokens",
        length,
        found.family.model.decoder,
        lambda most: f"--max_answer {most - length + max_answer}",
    )
    return prompted_scenes.pipelines(
        found.tokenizer,
        sources,
        train,
        before=found.transforms,
        first=first,
        asked=given,
        answered=answered,
        keys=keys,
        max_answer=max_answer,
        batch_size=batch_size,
        eval_batch_size=batch_size,
    )


def _check_positions(
    found: Opened, given: str, length: int, part: Any, instead: Callable[[int], str]
) -> None:
    """A `part` that knows positions by a table has so many."""
    most = getattr(part, "max_length", None) or length
    if length > most:
        raise UserError(
            f"{given}, but {found.weights} has positions for {most}; try {instead(most)}"
        )


def begun(
    experiment: Experiment, found: Opened, *, peak: float, adapt: str, rank: int
) -> Experiment:
    """From the published weights on: all of them, or where `adapt` is a rule for linear layers by low-rank updates."""
    model = found.family.model
    if rank and not adapt:
        raise UserError(f"--rank: given {rank} without --adapt RULE, which says of which layers")
    if adapt:
        rank = rank or 8
        model = Lora(model=model, rules=(adapt,), rank=rank, alpha=2.0 * rank)
    return dataclasses.replace(
        experiment,
        model=model,
        init_params=found.init_params,
        optimizer=prompted_scenes.adam_w(experiment.num_steps, peak=peak),
    )
