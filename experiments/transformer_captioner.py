"""A Transformer decoder that writes captions. Vaswani et al. 2017 (arXiv 1706.03762) as in Sharma et al. 2018.

    python -m experiments.transformer_captioner train --workdir runs/transformer
    python -m experiments.transformer_captioner evaluate --workdir runs/transformer --only test --record
    python -m experiments.transformer_captioner prefix train --workdir runs/prefix

The decoder attends to the picture's grid by cross-attention, or reads the grid as a bidirectional prefix of the text
(`prefix`, as in Wang et al. 2022, GIT). There is no published number for this size on Flickr8k.

Departures: four layers of width 256 in place of six of 512, pre-norm, features of MobileNetV2 as in
show_attend_and_tell.
"""

import sys

from experiments import captioners, datasets
from experiments.captioners import NUM_PAIRS, captioner
from vlm_jax.language.transformer import TransformerDecoder
from vlm_jax.main import main
from vlm_jax.models.generator import Generator
from vlm_jax.train.experiment import Experiment
from vlm_jax.vision.precomputed import Precomputed

CITATION = "after Vaswani et al. 2017"
PAPER = {"paper": {}, "prefix": {}}


def paper() -> Experiment:
    """Flickr8k, cross-attention, beam 3."""
    return _flickr8k(prefix=False)


def prefix() -> Experiment:
    """Flickr8k, the picture as a prefix, beam 3."""
    return _flickr8k(prefix=True)


def scenes() -> Experiment:
    """The pictures made here, with a small CNN trained along."""
    data = datasets.scenes(batch_size=64)
    model = Generator(
        decoder=_decoder(data, width=128, num_layers=2, num_heads=4, dropout_rate=0.0),
        image_encoder=captioners.scene_encoder(),
    )
    return captioner(data, model, beam=3, num_steps=4000)


def smoke() -> Experiment:
    """Two steps, tiny."""
    data = datasets.scenes(batch_size=4, config="tiny")
    model = Generator(
        decoder=_decoder(data, width=8, num_layers=1, num_heads=2, dropout_rate=0.0),
        image_encoder=captioners.scene_encoder((4, 4, 8)),
    )
    return captioners.smoke(captioner(data, model, beam=2, num_steps=2))


def _flickr8k(*, prefix: bool) -> Experiment:
    data = datasets.flickr8k(batch_size=128, pool=False)
    model = Generator(
        decoder=_decoder(
            data, width=256, num_layers=4, num_heads=4, dropout_rate=0.3, prefix=prefix
        ),
        image_encoder=Precomputed(width=256, dropout_rate=0.3),
    )
    return captioner(
        data,
        model,
        beam=3,
        num_steps=8 * NUM_PAIRS // 128,
        label_smoothing=0.1,
        length_penalty=0.7,
    )


def _decoder(
    data: datasets.CaptionData,
    *,
    width: int,
    num_layers: int,
    num_heads: int,
    dropout_rate: float,
    prefix: bool = False,
) -> TransformerDecoder:
    return TransformerDecoder(
        vocab_size=data.tokenizer.vocab_size,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        hidden=4 * width,
        prefix=prefix,
        dropout_rate=dropout_rate,
    )


if __name__ == "__main__":
    sys.exit(main(paper, prefix, scenes, smoke))
