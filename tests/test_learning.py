"""A captioner learns eight captions by heart, and reads from the picture which one to write."""

import numpy as np
import pytest

from vlm_jax.data.datasets.scenes_captions import captions
from vlm_jax.data.datasets.scenes_layout import generate
from vlm_jax.data.datasets.scenes_pictures import render
from vlm_jax.data.image_transforms import Normalise
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import InMemory
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.fusion.concat import Concat
from vlm_jax.language.attention_decoder import AttentionDecoder
from vlm_jax.language.recurrent import Merge, RecurrentDecoder
from vlm_jax.language.transformer import TransformerDecoder
from vlm_jax.layers.recurrent import GRU
from vlm_jax.models.generator import Generator
from vlm_jax.tasks.captioning import Captioning
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train.evaluation import Evaluation, evaluate
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.logs import Writer
from vlm_jax.train.loop import train
from vlm_jax.train.optimizers import Adam, Cosine
from vlm_jax.vision.small_cnn import SmallCnn

NUM_EXAMPLES, LENGTH, STEPS, VOCAB_SIZE = 8, 16, 150, 48

DECODERS = {
    "attention": AttentionDecoder(
        vocab_size=VOCAB_SIZE, width=48, embedding_width=24, attention_width=16
    ),
    "merge": RecurrentDecoder(
        vocab_size=VOCAB_SIZE,
        width=48,
        embedding_width=24,
        cell=GRU(),
        inject=Merge(fusion=Concat()),
    ),
    "transformer": TransformerDecoder(
        vocab_size=VOCAB_SIZE, width=32, num_layers=1, num_heads=2, hidden=64
    ),
}


class LastLoss(Writer):
    """The training loss of the last ten steps."""

    def open(self, workdir, num_steps):
        return self

    def numbers(self, step, name, numbers):
        self.value = numbers["loss"]


def eight_scenes():
    """Eight pictures, each with one caption; all captions differ."""
    examples = []
    for index in range(100):
        made = generate(0, "train", index)
        taken = {example["caption"] for example in examples}
        for text in captions(made, np.random.default_rng(index)):
            if len(text.split()) <= LENGTH - 2 and text not in taken:
                examples.append({"id": index, "image": render(made), "caption": text})
                break
        if len(examples) == NUM_EXAMPLES:
            return examples


def pipeline(examples, tokenizer, **options):
    tokenize = Tokenize(tokenizer=tokenizer, max_length=LENGTH)
    return Pipeline(
        source=InMemory(examples),
        transforms=(Normalise(mean=(0.5,), std=(0.5,)), tokenize),
        batch_size=NUM_EXAMPLES,
        **options,
    )


@pytest.mark.parametrize("name", DECODERS)
def test_eight_captions_are_learned_by_heart_and_follow_their_pictures(name):
    examples, log = eight_scenes(), LastLoss()
    tokenizer = WordTokenizer(corpus=InMemory(examples), vocab_size=VOCAB_SIZE, texts="caption")
    experiment = Experiment(
        model=Generator(image_encoder=SmallCnn(features=(8, 16, 32)), decoder=DECODERS[name]),
        task=Captioning(tokenizer=tokenizer, decoding=Greedy(max_length=LENGTH - 1)),
        train_data=pipeline(examples, tokenizer, train=True),
        num_steps=STEPS,
        optimizer=Adam(learning_rate=Cosine(peak=1e-2, num_steps=STEPS), clip_norm=5.0),
        log_every=10,
    )
    state = train(experiment, log=log)
    assert log.value < 0.05

    exchanged = [
        {**example, "image": examples[row - 1]["image"]} for row, example in enumerate(examples)
    ]
    evaluation = Evaluation(
        name="eight",
        data=pipeline(examples + exchanged, tokenizer, train=False),
        loss=False,
        reports=(lambda *_: None,),  # with one, the examples are kept
    )
    found = evaluate(evaluation, experiment.model, experiment.task, state.eval_variables).examples
    written = [example["prediction"] for example in found]
    texts = [tokenizer.normalise(example["caption"]) for example in examples]
    assert written[:NUM_EXAMPLES] == texts
    # With another's picture, another's caption: what is written comes from the picture alone.
    assert written[NUM_EXAMPLES:] == texts[-1:] + texts[:-1]
