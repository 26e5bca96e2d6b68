"""FiLM: Visual Reasoning with a General Conditioning Layer. Perez et al. 2018, arXiv 1709.07871.

    python -m experiments.film basics train --workdir runs/film_basics
    python -m experiments.film scenes train --start runs/film_basics --workdir runs/film
    python -m experiments.film scenes evaluate --workdir runs/film --record

A GRU reads the question; its last state says how every feature of a convolutional network over the picture is scaled and
shifted, in each of four residual blocks. On the pictures made here, from pixels, questions of seven types; `test_unseen` has
pairs of colour and shape that training never shows. The paper's number is for CLEVR (table 1, from pixels: 97.6), which is not
here; ours are in experiments/results.

Departures from the paper:
- section 3: three convolutions of 16, 32 and 64 features, each halving a picture of 64x64; four blocks of 64 features
  on the 8x8 grid (the paper: four convolutions of 128 on 224x224, four blocks of 128 on 14x14). A GRU of 128 units over
  word vectors of 64 (4096 over 200).
- section 3: the classifier is a 1x1 convolution to 256 features, the largest of each over the picture, and a hidden layer
  of 512; the paper has 512 and 1024.
- every epoch asks other questions about the 8,000 training pictures (datasets/scenes_questions.AskAnew), as many as are
  stored. Of the stored 74,407 the answers to relations were learned by heart: 49.9 % of them right on test, where half is
  chance, and 92.9 % of all (three blocks, 16 epochs).
- two runs. While one question in ten is about a relation, these stay at chance after all others are answered (`basics`: 48 %
  of them, 91 % of all); from there on (`scenes`) four in ten are, and a quarter are comparisons. With these shares from the
  beginning the others are learned too slowly. Ten epochs of `scenes` end at 96.7 on test, eighteen at 97.3.
- section 4: Adam with 1e-3 and a cosine schedule, L2 of 1e-5, batches of 64; the paper has 3e-4 throughout.
"""

import dataclasses
import sys

from experiments import answerers, questions
from experiments.answerers import answerer
from vlm_jax.data.datasets.scenes_questions import AskAnew
from vlm_jax.fusion.film import Film
from vlm_jax.language.recurrent import RecurrentEncoder
from vlm_jax.layers.pooling import last_pool, max_pool
from vlm_jax.layers.recurrent import GRU
from vlm_jax.main import main
from vlm_jax.models.classifier import Classifier
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.from_run import FromRun
from vlm_jax.train.optimizers import Adam, Cosine
from vlm_jax.vision.small_cnn import SmallCnn

CITATION = "Perez et al. 2018"
PAPER = {}
PAPER_CLEVR = {"accuracy": 97.6}
SHARES = (("relation", 0.4), ("comparison", 0.25))


def basics(epochs: int = 16, stop: int = 6_978) -> Experiment:
    """The pictures made here, questions of seven types as often as the records have them; the first `stop` steps of so
    many epochs, where all but the questions about two objects are answered."""
    return dataclasses.replace(_scenes(AskAnew(), epochs), num_steps=stop)


def scenes(start: str = "runs/film_basics", epochs: int = 18) -> Experiment:
    """The same with more questions about two objects, from the run of `basics` in the folder `start`; "" draws anew."""
    experiment = _scenes(AskAnew(shares=SHARES), epochs)
    return dataclasses.replace(experiment, init_params=FromRun(workdir=start) if start else None)


def smoke() -> Experiment:
    """Two steps, tiny."""
    data = questions.scenes(batch_size=4, config="tiny")
    model = _model(data, features=(4, 4, 8), width=8, num_blocks=1)
    return answerers.smoke(_trained(data, model, num_steps=2))


def _scenes(anew: AskAnew, epochs: int) -> Experiment:
    data = questions.scenes(batch_size=64, anew=anew)
    return _trained(data, _model(data), num_steps=epochs * answerers.SCENES // 64)


def _model(
    data: questions.QuestionData,
    *,
    features: tuple[int, ...] = (16, 32, 64),
    width: int = 64,
    num_blocks: int = 4,
) -> Classifier:
    return Classifier(
        num_classes=len(data.classes),
        image_encoder=SmallCnn(features=features),
        text_encoder=RecurrentEncoder(
            cell=GRU(),
            vocab_size=data.tokenizer.vocab_size,
            width=2 * width,
            embedding_width=width,
            bidirectional=False,
        ),
        fusion=Film(
            width=width, num_blocks=num_blocks, output_width=4 * width, text_pooling=last_pool
        ),
        pooling=max_pool,
        hidden=8 * width,
    )


def _trained(data: questions.QuestionData, model: Classifier, *, num_steps: int) -> Experiment:
    optimizer = Adam(
        learning_rate=Cosine(peak=1e-3, num_steps=num_steps), weight_decay=1e-5, clip_norm=5.0
    )
    return answerer(data, model, optimizer=optimizer, num_steps=num_steps)


if __name__ == "__main__":
    sys.exit(main(basics, scenes, smoke))
