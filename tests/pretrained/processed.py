"""Generated pictures of odd sizes, and processors as published files describe them, at small sizes."""

import numpy as np

CONFIGS = {
    "vit": {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 12, "width": 9},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 0.00392156862745098,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
    "convnext_crop": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 11},
        "crop_pct": 0.8,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
    "mobilenet_v2": {
        "image_processor_type": "MobileNetV2ImageProcessor",
        "size": {"shortest_edge": 13},
        "crop_size": {"height": 11, "width": 10},
    },
    "clip": {
        "image_processor_type": "CLIPImageProcessorFast",
        "size": {"shortest_edge": 12},
        "crop_size": {"height": 12, "width": 12},
        "do_convert_rgb": True,
    },
    "siglip": {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 11, "width": 11},
        "rescale_factor": 0.01,
    },
    "blip": {"image_processor_type": "BlipImageProcessor", "size": {"height": 10, "width": 10}},
}

# Its pictures come out as patches, of another shape each.
PATCHES = {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 3, "max_num_patches": 12}


def patches(picture: np.ndarray) -> np.ndarray:
    """[h w c] as PATCHES has it: [12 3*3*c], zeros where there are fewer."""
    size, (height, width, _) = PATCHES["patch_size"], picture.shape
    split = picture.reshape(height // size, size, width // size, size, -1).swapaxes(1, 2)
    found = split.reshape(height * width // size**2, -1)
    return np.pad(found, ((0, PATCHES["max_num_patches"] - len(found)), (0, 0)))


def pictures(number: int = 20) -> list[np.ndarray]:
    """uint8 [h w 3], larger and smaller than what they become, wide and high: edges, ramps and noise."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(number):
        height, width = (int(n) for n in rng.integers(5, 70, 2))
        rows, columns = np.mgrid[:height, :width]
        ramp = np.stack([3 * rows + columns, 5 * columns, 255 - 2 * rows], axis=-1)
        edges = 255 * ((rows // (2 + i % 3) + columns // (1 + i % 4)) % 2)[..., None]
        noise = rng.integers(0, 256, (height, width, 3))
        found.append((np.choose(i % 3, [ramp, edges + 0 * ramp, noise]) % 256).astype(np.uint8))
    return found
