"""VLM(x, I) = CNN(I) (+) RNN(x): the smallest vision-language model, as tutorials draw it, made to work.

    python -m experiments.document_vlm train --workdir runs/document_vlm
    python -m experiments.document_vlm evaluate --workdir runs/document_vlm

One 3x3 convolution of 64 filters reads the picture, an embedding of 256 and three recurrent layers of 128 read the
words, concatenation joins them, a linear layer writes the next word. There is no published number.

What it takes to work: the picture's positions. Averaged over the picture, 64 filters say which colours there are
and nothing of where; so the grid is pooled to 8x8 cells and each cell keeps its place in the vector.
"""

import sys

from experiments import captioners, datasets
from experiments.captioners import captioner
from vlm_jax.fusion.concat import Concat
from vlm_jax.language.recurrent import Merge, RecurrentDecoder
from vlm_jax.layers.recurrent import LSTM
from vlm_jax.main import main
from vlm_jax.models.generator import Generator
from vlm_jax.train.experiment import Experiment
from vlm_jax.vision.grid_vector import GridVector
from vlm_jax.vision.small_cnn import Convolution

CITATION = "no paper"
PAPER = {"paper": {}}


def paper() -> Experiment:
    """The tutorial's model on the pictures made here."""
    return _document_vlm(filters=64, embedding=256, recurrent=128, batch_size=64, num_steps=6000)


def scenes() -> Experiment:
    """The same: this model has no other data."""
    return paper()


def pooled() -> Experiment:
    """The picture as the mean over its positions, as tutorials have it: it cannot know where things are."""
    return _document_vlm(
        filters=64, embedding=256, recurrent=128, batch_size=64, num_steps=6000, keep_places=False
    )


def smoke() -> Experiment:
    """Two steps, tiny."""
    small = dict(filters=2, embedding=4, recurrent=4, batch_size=4, num_steps=2, config="tiny")
    return captioners.smoke(_document_vlm(**small))


def _document_vlm(
    *,
    filters: int,
    embedding: int,
    recurrent: int,
    batch_size: int,
    num_steps: int,
    keep_places: bool = True,
    config: str | None = None,
) -> Experiment:
    data = datasets.scenes(batch_size=batch_size, config=config)
    image_encoder = Convolution(filters=filters)
    if keep_places:
        image_encoder = GridVector(encoder=image_encoder, side=8)
    model = Generator(
        decoder=RecurrentDecoder(
            vocab_size=data.tokenizer.vocab_size,
            width=recurrent,
            embedding_width=embedding,
            num_layers=3,
            cell=LSTM(),
            inject=Merge(fusion=Concat()),
        ),
        image_encoder=image_encoder,
    )
    return captioner(data, model, beam=3, num_steps=num_steps)


if __name__ == "__main__":
    sys.exit(main(paper, scenes, pooled, smoke))
