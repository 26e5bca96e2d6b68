"""How near a picture comes to the nearest one that was trained on: a model that copies is no model that makes."""

import numpy as np

AT_ONCE = 512  # pictures whose distances are held at a time


def nearest(pictures: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `pictures`, uint8 [n h w c], which of `training`, uint8 [m h w c], is nearest, Int[n], and how far it
    is, Float[n]: the root of the mean squared difference of their pixels, in levels of 255."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    best = np.full(len(flat), np.inf, np.float32)
    which = np.zeros(len(flat), np.int64)
    own = np.square(flat).sum(1)
    for start in range(0, len(training), AT_ONCE):
        part = training[start : start + AT_ONCE].reshape(-1, flat.shape[1]).astype(np.float32)
        squares = own[:, None] + np.square(part).sum(1) - 2 * flat @ part.T
        least = squares.argmin(1)
        found = squares[np.arange(len(flat)), least]
        which = np.where(found < best, least + start, which)
        best = np.minimum(best, found)
    # Once more without the rounding of large sums.
    differences = [
        np.square(a.astype(np.float64) - training[k].ravel()).mean() for a, k in zip(flat, which)
    ]
    return which, np.sqrt(differences)


def copies(made: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """From the distances of pictures that were made, and of real ones that nobody trained on, to their nearest training
    pictures: the medians, `nearest_made` and `nearest_real`, and `copies`, the share times 100 of those made that are
    nearer than all but one in a hundred of the real ones. About 1 is what chance gives."""
    return {
        "copies": 100.0 * float((made < np.quantile(real, 0.01)).mean()),
        "nearest_made": float(np.median(made)),
        "nearest_real": float(np.median(real)),
    }
