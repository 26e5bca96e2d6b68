"""Stacked Attention Networks for Image Question Answering. Yang et al. 2016, arXiv 1511.02274.

    python -m experiments.stacked_attention daquar train --workdir runs/san.daquar
    python -m experiments.stacked_attention daquar evaluate --workdir runs/san.daquar --record
    python -m experiments.stacked_attention scenes predict IMAGE --question "..." --attention DIR --workdir runs/san

The question, an LSTM's last state, looks at the places of the picture twice, the second time knowing what it saw the first.
PAPER has SAN(2, LSTM) on DAQUAR-ALL (table 1), from memory: the questions with answers of one word, which is what `test`
has here. PAPER_WUPS stands apart, for WUPS needs WordNet's files, placed by hand (text/wordnet.py). Beside it stand
`vqa_lstm_cnn blind_daquar`, without the picture, and `accuracy_majority` in every evaluation.

Departures from the paper:
- section 3.1: features of MobileNetV2, 7x7 places of 1280, as log(1 + x), standardised, each divided by its length
  (DAQUAR; not divided, validation was 1.6 to 4 lower), or a small CNN trained along (scenes, 8x8 places); the paper has
  VGGNet's 14x14 places of 512.
- section 3.2: an LSTM of 256 units over word vectors of 128 (the paper: 500 to 1024).
- section 4.2: on the official train images but for a tenth, kept for validation.
- section 4.3: Adam with a cosine schedule; the paper has SGD with momentum 0.9. Batches of 64 (100).
"""

import sys

from experiments import answerers, questions
from experiments.answerers import answerer
from experiments.captioners import scene_encoder
from experiments.questions import QuestionData
from vlm_jax.fusion.stacked_attention import StackedAttention
from vlm_jax.language.recurrent import RecurrentEncoder
from vlm_jax.layers.norm import UnitNorm
from vlm_jax.layers.pooling import last_pool, pool
from vlm_jax.main import main
from vlm_jax.models.classifier import Classifier
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import Adam, Cosine
from vlm_jax.vision.precomputed import Precomputed
from vlm_jax.vision.small_cnn import SmallCnn

CITATION = "Yang et al. 2016"
PAPER = {"daquar.daquar_single": {"accuracy": 29.3}}
PAPER_WUPS = {"daquar.daquar_single": {"wups_0.9": 34.9, "wups_0.0": 68.1}}


def scenes(epochs: int = 12) -> Experiment:
    """The pictures made here, questions of seven types."""
    data = questions.scenes(batch_size=64)
    model = _model(data, scene_encoder(), width=128)
    return _trained(data, model, epochs * answerers.SCENES // 64)


def daquar(epochs: int = 12, num_layers: int = 2) -> Experiment:
    """DAQUAR, answers of one word; `num_layers` looks."""
    data = questions.daquar(batch_size=64)
    encoder = Precomputed(norm=UnitNorm(), dropout_rate=0.3)
    model = _model(data, encoder, width=256, num_layers=num_layers, dropout_rate=0.5)
    return _trained(data, model, epochs * answerers.DAQUAR // 64, validation=12)


def smoke() -> Experiment:
    """Two steps, tiny."""
    data = questions.scenes(batch_size=4, config="tiny")
    model = _model(data, scene_encoder((4, 4, 4)), width=8)
    return answerers.smoke(_trained(data, model, 2))


def _model(
    data: QuestionData,
    image_encoder: Precomputed | SmallCnn,
    *,
    width: int,
    num_layers: int = 2,
    dropout_rate: float = 0.0,
) -> Classifier:
    return Classifier(
        num_classes=len(data.classes),
        image_encoder=image_encoder,
        text_encoder=RecurrentEncoder(
            vocab_size=data.tokenizer.vocab_size,
            width=width,
            embedding_width=width // 2,
            bidirectional=False,
            embedding_dropout_rate=dropout_rate / 2,
        ),
        fusion=StackedAttention(
            attention_width=width, num_layers=num_layers, text_pooling=last_pool
        ),
        pooling=pool,
        dropout_rate=dropout_rate,
    )


def _trained(
    data: QuestionData, model: Classifier, num_steps: int, *, validation: int = 6
) -> Experiment:
    optimizer = Adam(learning_rate=Cosine(peak=1e-3, num_steps=num_steps), clip_norm=5.0)
    return answerer(data, model, optimizer=optimizer, num_steps=num_steps, evaluations=validation)


if __name__ == "__main__":
    sys.exit(main(scenes, daquar, smoke))
