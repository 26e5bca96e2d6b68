"""Where to put the Image in an Image Caption Generator. Tanti, Gatt, Camilleri 2018, arXiv 1703.09137.

    python -m experiments.where_to_put_the_image merge train --workdir runs/merge
    python -m experiments.where_to_put_the_image merge evaluate --workdir runs/merge --only test --record

Four ways for a picture to meet a recurrent language model: as its first state (init_inject), as its first word
(pre_inject), beside every word (par_inject), or after it (merge), on Flickr8k in Karpathy's split. The paper's
numbers are in PAPER below, ours in experiments/results.

Departures from the paper:
- section 4.1: features of MobileNetV2 (1280, ImageNet top-1 71.8) on 224x224 pictures whose aspect ratio was
  squashed, as log(1 + x), standardised over the training pictures; the paper has VGG-16's fc7 (4096) divided
  by their norm. So the layer that reads the picture has fewer parameters here.
- section 4.1: in training one of six views of a picture is drawn (as it is, mirrored, four random parts), at test
  the mean of the picture's and its mirror image's features is taken.
- section 4.2: captions are cut after 22 words (0.75 % of the training captions are longer).
- section 4.3: 256-d GRUs for the three inject architectures (the paper tuned 512, 512 and 256), which read the tanh of
  the projected picture. The gates of init- and pre-inject start with biases of 1, so the state is kept (worth 3 of
  validation CIDEr after three epochs); the words of par-inject start five times larger, which with the tanh was worth
  2.5. Batches of 128 captions of like length, a cosine schedule from 4e-3 (merge: 2e-3), dropout of 0.3 and 0.4
  (merge: 0.4, 0.5, and of the picture 0.3), a moving average of the parameters, and the checkpoint with the lowest
  validation perplexity of five; the search ranks by log probability over length and repeats no three words.
"""

import sys

import flax.linen as nn

from experiments import captioners, datasets
from experiments.captioners import NUM_PAIRS, captioner
from vlm_jax.fusion.concat import Concat
from vlm_jax.language.recurrent import InitInject, Merge, ParInject, PreInject, RecurrentDecoder
from vlm_jax.layers.recurrent import ResetAfterGRU
from vlm_jax.main import main
from vlm_jax.models.generator import Generator
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.vision.precomputed import Precomputed

CITATION = "Tanti et al. 2018"
PAPER = {
    "init_inject": {"cider": 48.1, "bleu_1": 61.1, "bleu_4": 19.1, "meteor": 19.4},
    "pre_inject": {"cider": 46.9, "bleu_1": 60.9, "bleu_4": 19.0},
    "par_inject": {"cider": 47.5, "bleu_1": 61.1, "bleu_4": 19.1},
    "merge": {
        "cider": 46.9,
        "bleu_1": 60.0,
        "bleu_4": 17.8,
        "meteor": 19.3,
        "rouge_l": 44.4,
        "parameters": 1.60e6,
    },
}


def init_inject() -> Experiment:
    """The picture is the first state. 256-d GRU, beam 3."""
    return _flickr8k(
        _injecting(InitInject(activation=nn.tanh), gate_bias=1.0), beam=3, peak=4e-3, epochs=7
    )


def pre_inject() -> Experiment:
    """The picture is the first word. 256-d GRU, beam 3."""
    return _flickr8k(
        _injecting(PreInject(activation=nn.tanh), gate_bias=1.0), beam=3, peak=4e-3, epochs=7
    )


def par_inject() -> Experiment:
    """The picture stands beside every word. 256-d GRU, beam 5."""
    inject = ParInject(width=256, fusion=Concat(), activation=nn.tanh)
    return _flickr8k(_injecting(inject, embedding_stddev=0.5), beam=5, peak=4e-3, epochs=8)


def merge() -> Experiment:
    """The picture joins what the GRU says. 128-d everywhere, beam 3, a quarter of the parameters."""
    inject = Merge(width=128, fusion=Concat(), input_dropout_rate=0.3)
    return _flickr8k(_decoder(inject, width=128), beam=3, peak=2e-3, epochs=10)


def scenes() -> Experiment:
    """Init-inject on the pictures made here, with a small CNN trained along."""
    data = datasets.scenes(batch_size=64)
    decoder = _decoder(InitInject(), width=256, vocab_size=data.tokenizer.vocab_size)
    model = Generator(decoder=decoder, image_encoder=captioners.scene_vector())
    return captioner(data, model, beam=3, num_steps=4000)


def smoke() -> Experiment:
    """Two steps of merge, tiny."""
    data = datasets.scenes(batch_size=4, config="tiny")
    inject = Merge(width=8, fusion=Concat())
    decoder = _decoder(inject, width=8, vocab_size=data.tokenizer.vocab_size)
    model = Generator(decoder=decoder, image_encoder=captioners.scene_vector((4, 4, 4)))
    return captioners.smoke(captioner(data, model, beam=2, num_steps=2))


def _flickr8k(decoder: RecurrentDecoder, *, beam: int, peak: float, epochs: int) -> Experiment:
    data = datasets.flickr8k(batch_size=128, pool=True)
    model = Generator(decoder=decoder, image_encoder=Precomputed())
    return captioner(
        data,
        model,
        beam=beam,
        num_steps=epochs * NUM_PAIRS // 128,
        peak=peak,
        evaluations=5,
        length_penalty=1.0,
        ema_decay=0.995,
        best=Best(metric="validation_pairs/perplexity", mode="min"),
    )


def _injecting(
    inject: nn.Module, *, gate_bias: float = 0.0, embedding_stddev: float = 0.1
) -> RecurrentDecoder:
    """A picture that must be remembered wants a GRU that keeps its state (`gate_bias`); one that stands beside the
    words wants words of its own size (`embedding_stddev`)."""
    return _decoder(
        inject,
        width=256,
        gate_bias=gate_bias,
        embedding_stddev=embedding_stddev,
        embedding_dropout_rate=0.3,
        rnn_dropout_rate=0.4,
    )


def _decoder(
    inject: nn.Module,
    *,
    width: int,
    vocab_size: int = 2560,
    gate_bias: float = 0.0,
    embedding_stddev: float = 0.1,
    embedding_dropout_rate: float = 0.4,
    rnn_dropout_rate: float = 0.5,
) -> RecurrentDecoder:
    return RecurrentDecoder(
        vocab_size=vocab_size,
        width=width,
        embedding_width=width,
        cell=ResetAfterGRU(gate_bias=gate_bias),
        inject=inject,
        embedding_stddev=embedding_stddev,
        embedding_dropout_rate=embedding_dropout_rate,
        rnn_dropout_rate=rnn_dropout_rate,
    )


if __name__ == "__main__":
    sys.exit(main(init_inject, pre_inject, par_inject, merge, scenes, smoke))
