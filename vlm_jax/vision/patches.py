"""Pictures as grids of patches, and back: nothing is lost."""

from jaxtyping import Array, Float


def to_patches(image: Float[Array, "b h w c"], size: int) -> Float[Array, "b m n d"]:
    """Every size x size square as one vector, row by row: [b 4 6 3], 2 -> [b 2 3 12]."""
    b, h, w, c = image.shape
    if h % size or w % size:
        raise ValueError(
            f"given a grid of {h}x{w} to divide in squares of {size}; expected both to be multiples of {size}. Try "
            "another patch_size, fewer levels, or Resize in the data pipeline"
        )
    squares = image.reshape(b, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(b, h // size, w // size, size * size * c)


def from_patches(patches: Float[Array, "b m n d"], size: int) -> Float[Array, "b h w c"]:
    """The picture that `to_patches` took apart: [b 2 3 12], 2 -> [b 4 6 3]."""
    b, m, n, d = patches.shape
    squares = patches.reshape(b, m, n, size, size, d // size**2).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(b, m * size, n * size, d // size**2)
