"""Clothes of Fashion-MNIST by rectified flow, the name of the class as prompt: Liu et al. 2023 (arXiv 2209.03003).

    python -m experiments.flow_fashion_mnist unet train --workdir runs/flow_clothes
    python -m experiments.fashion_mnist small_cnn train --workdir runs/small_cnn
    python -m experiments.flow_fashion_mnist unet evaluate --workdir runs/flow_clothes --only test --judge runs/small_cnn --nearest --record
    python -m experiments.flow_fashion_mnist unet predict --prompt "ankle boot" --count 16 --workdir runs/flow_clothes

As in flow_scenes: Heun's method, guidance, one prompt in ten of training empty. Times are logit-normal about the middle.
A U-Net over patches of 2x2: a grid of 14x14 with 48 features and one of 7x7 with 96 and attention. Class consistency is
how often fashion_mnist.small_cnn, trained on the same training pictures, says that a picture is of its prompt: on 400 pictures of
validation 95.0, 98.5 and 99.5 % with guidance 2, 3 and 4, the in-domain Fréchet distance 0.24, 0.19 and 0.16; of 10,000 of test 98.4 and
0.15 with 4 (of real ones 93.3: with much guidance clothes are more typical than real ones are). The run was trained with guidance 2 and
a moving average of 0.999 in its configuration, which training does not read; evaluated were its last parameters. The average, in which
initial parameters weighed 1/20, had 96.2 % and 0.27.
"""

import sys

from experiments import flows, picture_data
from experiments.flows import painter
from vlm_jax.main import main
from vlm_jax.train.experiment import Experiment
from vlm_jax.vision.unet import UNet

CITATION = "Liu et al. 2023"
PAPER = {}


def unet(num_steps: int = 3000) -> Experiment:
    """Class names as prompts, on two cores."""
    return painter(
        picture_data.fashion_mnist(batch_size=64),
        UNet(widths=(48, 96), num_blocks=(1, 2), patch_size=2),
        image_shape=(28, 28, 1),
        num_steps=num_steps,
        peak=1e-3,
        guidance=4.0,
        text_width=64,
        text_layers=1,
    )


def smoke() -> Experiment:
    """Two steps, tiny, on the pictures made here."""
    tiny = painter(
        picture_data.scenes(batch_size=4, config="tiny", eval_batch_size=2),
        UNet(widths=(16,), num_blocks=(1,), patch_size=16, condition_width=16),
        image_shape=(64, 64, 3),
        num_steps=2,
        peak=1e-3,
        guidance=2.0,
        text_width=8,
        text_layers=1,
    )
    return flows.smoke(tiny)


if __name__ == "__main__":
    sys.exit(main(unet, smoke))
