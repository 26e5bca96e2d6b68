"""VQA: Visual Question Answering. Antol et al. 2015, arXiv 1505.00468: "deeper LSTM Q + norm I".

    python -m experiments.vqa_lstm_cnn daquar train --workdir runs/vqa.daquar
    python -m experiments.vqa_lstm_cnn daquar evaluate --workdir runs/vqa.daquar --record
    python -m experiments.vqa_lstm_cnn blind_daquar train --workdir runs/vqa.blind_daquar

An LSTM of two layers reads the question, its last state and the picture's features are brought to one width by tanh
layers, multiplied number by number, and an answer is chosen from those of the training questions. `blind` reads the
question alone: what an answer owes to the picture is the difference. Every evaluation also has `accuracy_majority`, of
the most frequent training answer to each type of question. Ours are in experiments/results.

On DAQUAR `test` has the questions with answers of one word, `test_all` all of them (see datasets/daquar.py); WUPS needs
WordNet's files, placed by hand (text/wordnet.py). Published there, from memory, in PAPER_DAQUAR: Neural-Image-QA of
Malinowski et al. 2015 on all questions, and its blind form.

vqa_v2 is not run: the data is not here. PAPER has what Goyal et al. 2017 report for this model on VQA v2, test-standard,
from memory; the paper's own 58.16 is for VQA v1.

Departures from the paper:
- section 4, image channel: the mean of MobileNetV2's features, as log(1 + x), standardised and (DAQUAR) divided by its length,
  or a small CNN trained along (scenes); the paper has VGG-19's last hidden layer, divided by its norm.
- DAQUAR: the picture's bias before its tanh begins at 1, so that the products begin as the question's. From 0, with or
  without the division, validation stood at 8 % after 450 steps, below the blind model's 16.
- section 4, question channel: of the LSTM's states the last output of the second layer; the paper has output and cell
  of both layers. Widths of 128 and 256 (VQA v2: 512 and 1024, as the paper), word vectors of 64 to 300.
- section 4, MLP: one hidden layer with relu behind the product; the paper has two with tanh.
- section 4: the answers are all of one word that occur (DAQUAR), or the 3,000 most frequent (VQA v2; the paper 1,000).
"""

import dataclasses
import sys

from experiments import answerers, questions
from experiments.answerers import answerer
from experiments.captioners import scene_vector
from experiments.questions import QuestionData
from vlm_jax.fusion.bilinear import Mlb
from vlm_jax.language.recurrent import RecurrentEncoder
from vlm_jax.layers.norm import UnitNorm
from vlm_jax.layers.pooling import last_pool
from vlm_jax.main import main
from vlm_jax.metrics.vqa_accuracy import VqaAccuracy
from vlm_jax.models.classifier import Classifier
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import Adam, Cosine
from vlm_jax.vision.grid_vector import GridVector
from vlm_jax.vision.precomputed import Precomputed

CITATION = "Antol et al. 2015"
PAPER = {"vqa_v2": {"vqa_accuracy": 54.22}}
PAPER_DAQUAR = {
    "daquar.daquar_all": {"accuracy": 19.43, "wups_0.9": 25.28, "wups_0.0": 62.00},
    "blind_daquar.daquar_all": {"accuracy": 17.15, "wups_0.9": 22.80, "wups_0.0": 58.42},
}


def scenes(epochs: int = 12) -> Experiment:
    """The pictures made here, questions of seven types."""
    data = questions.scenes(batch_size=64)
    model = _model(data, scene_vector(), width=128)
    return _trained(data, model, epochs * answerers.SCENES // 64, peak=1e-3)


def blind() -> Experiment:
    """The questions of `scenes` without the pictures."""
    return _blind(scenes(6))


def daquar(epochs: int = 16) -> Experiment:
    """DAQUAR, answers of one word."""
    data = questions.daquar(batch_size=64, pool=True)
    model = _model(data, Precomputed(norm=UnitNorm()), width=256, image_bias=1.0, dropout_rate=0.2)
    return _trained(data, model, epochs * answerers.DAQUAR // 64, peak=1e-3, validation=12)


def blind_daquar() -> Experiment:
    """The questions of `daquar` without the pictures."""
    return _blind(daquar())


def vqa_v2() -> Experiment:
    """VQA v2, train and validation. Not run: the data is not here."""
    data = questions.vqa_v2(batch_size=512, pool=True)
    model = _model(data, Precomputed(dropout_rate=0.5), width=512, words=300, dropout_rate=0.5)
    return _trained(data, model, 30 * answerers.VQA_V2 // 512, peak=1e-3, best="vqa_accuracy")


def smoke() -> Experiment:
    """Two steps, tiny."""
    data = questions.scenes(batch_size=4, config="tiny")
    metrics = (*data.metrics, VqaAccuracy(reference="answer"))  # of one person: nobody is left
    data = dataclasses.replace(data, metrics=metrics)
    model = _model(data, scene_vector((4, 4, 4)), width=8)
    return answerers.smoke(_trained(data, model, 2, peak=1e-3))


def _model(
    data: QuestionData,
    image_encoder: Precomputed | GridVector,
    *,
    width: int,
    words: int = 64,
    image_bias: float = 0.0,
    dropout_rate: float = 0.0,
) -> Classifier:
    return Classifier(
        num_classes=len(data.classes),
        image_encoder=image_encoder,
        text_encoder=RecurrentEncoder(
            vocab_size=data.tokenizer.vocab_size,
            width=width,
            embedding_width=words,
            num_layers=2,
            bidirectional=False,
            embedding_dropout_rate=dropout_rate / 2,
            rnn_dropout_rate=dropout_rate,
        ),
        fusion=Mlb(
            hidden=2 * width, width=2 * width, image_bias=image_bias, dropout_rate=dropout_rate
        ),
        pooling=last_pool,
        hidden=2 * width,
        dropout_rate=dropout_rate,
    )


def _blind(experiment: Experiment) -> Experiment:
    model = dataclasses.replace(experiment.model, image_encoder=None, fusion=None)
    return dataclasses.replace(experiment, model=model)


def _trained(
    data: QuestionData,
    model: Classifier,
    num_steps: int,
    *,
    peak: float,
    validation: int = 6,
    best: str = "accuracy",
) -> Experiment:
    optimizer = Adam(learning_rate=Cosine(peak=peak, num_steps=num_steps), clip_norm=5.0)
    return answerer(
        data,
        model,
        optimizer=optimizer,
        num_steps=num_steps,
        evaluations=validation,
        best=f"validation/{best}",
    )


if __name__ == "__main__":
    sys.exit(main(scenes, blind, daquar, blind_daquar, vqa_v2, smoke))
