"""Learning Transferable Visual Models From Natural Language Supervision (CLIP). Radford et al. 2021, arXiv 2103.00020.

python -m experiments.clip frozen train --workdir runs/clip
python -m experiments.clip frozen evaluate --workdir runs/clip --only test --record
python -m experiments.clip search "a dog runs on grass" "two people on a beach" --workdir runs/clip
python -m experiments.clip predict dog.jpg --classes "a dog,a cat" --workdir runs/clip
"""

import sys

from experiments import datasets, retrievers
from experiments.captioners import NUM_PAIRS, scene_vector
from vlm_jax.language.recurrent import RecurrentEncoder
from vlm_jax.layers.pooling import max_pool, pool
from vlm_jax.layers.recurrent import ResetAfterGRU
from vlm_jax.main import main
from vlm_jax.models.two_tower import TwoTower
from vlm_jax.tasks.contrastive import softmax_pairs
from vlm_jax.train.experiment import Experiment
from vlm_jax.vision.precomputed import Precomputed

CITATION = "Radford et al. 2021"
PAPER = {}


def frozen(batch_size: int = 256) -> Experiment:
    """Flickr8k, cached features of MobileNetV2."""
    data = datasets.flickr8k(batch_size=batch_size, pool=True)
    model = TwoTower(
        image_encoder=Precomputed(dropout_rate=0.3),
        text_encoder=RecurrentEncoder(
            cell=ResetAfterGRU(),
            vocab_size=data.tokenizer.vocab_size,
            width=256,
            embedding_width=256,
            bidirectional=False,
            embedding_dropout_rate=0.3,
        ),
        width=256,
        image_pooling=pool,
        text_pooling=max_pool,
        dropout_rate=0.1,
    )
    return retrievers.retriever(
        data,
        model,
        objective=softmax_pairs,
        num_steps=10 * NUM_PAIRS // batch_size,
        peak=1e-3,
        ema_decay=0.99,
    )


if __name__ == "__main__":
    sys.exit(main(frozen))
