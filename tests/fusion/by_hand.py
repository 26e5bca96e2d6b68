"""Two small inputs and every fusion's paper in numpy: one row at a time, and only what is real of it."""

import jax
import numpy as np

from vlm_jax.fusion import bilinear
from vlm_jax.fusion.bilinear import Mcb, Mfb, Mlb, Mutan
from vlm_jax.fusion.co_attention import AlternatingCoAttention, ParallelCoAttention
from vlm_jax.fusion.concat import Concat
from vlm_jax.fusion.cross_attention import CrossAttention
from vlm_jax.fusion.elementwise import Product, Sum
from vlm_jax.fusion.film import Film
from vlm_jax.fusion.gated import Gated
from vlm_jax.fusion.prefix import Prefix
from vlm_jax.fusion.resampler import Resampler
from vlm_jax.fusion.single_stream import SingleStream
from vlm_jax.fusion.stacked_attention import StackedAttention
from vlm_jax.layers.pooling import last_pool
from vlm_jax.train.state import path_name
from vlm_jax.types import Features

# Places are a grid of 2 rows and 3 columns. The last place of the first picture, and the last word of the first text,
# are padding; in the second text the first word is.
IMAGE = Features(
    values=np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32),
    mask=np.array([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]], bool),
)
TEXT = Features(
    values=np.random.default_rng(1).normal(size=(2, 4, 4)).astype(np.float32),
    mask=np.array([[1, 1, 1, 0], [0, 1, 1, 1]], bool),
)
_SIZES = {"num_heads": 2, "hidden": 6}
ALL = {
    "concat": Concat(width=5),
    "sum": Sum(width=5),
    "product": Product(width=5),
    "gated": Gated(width=5),
    "mlb": Mlb(hidden=3, width=5),
    "mutan": Mutan(image_width=3, text_width=4, width=5, rank=2),
    "mcb": Mcb(width=7, seed=1),
    "mfb": Mfb(width=5, num_factors=2),
    "film": Film(width=4, num_blocks=2, output_width=3, grid=(2, 3)),
    "cross_attention": CrossAttention(num_layers=2, **_SIZES),
    "parallel_co_attention": ParallelCoAttention(attention_width=3),
    "alternating_co_attention": AlternatingCoAttention(attention_width=3),
    "resampler": Resampler(num_latents=2, num_layers=2, **_SIZES),
    "stacked_attention": StackedAttention(attention_width=3, text_pooling=last_pool),
    "prefix": Prefix(),
    "single_stream": SingleStream(fusion=Prefix(), **_SIZES),
}


def variables_of(fusion, image=IMAGE, text=TEXT):
    """Nothing near 0, no bias 0, no scale 1, and nothing to compile."""
    shapes = dict(jax.eval_shape(lambda: fusion.init(jax.random.key(0), image, text, train=False)))
    shapes.pop("intermediates", None)
    rng = np.random.default_rng(3)

    def fill(path, leaf):
        values = 0.7 * rng.normal(size=leaf.shape)
        if path_name(path).split("/")[-1] in ("scale", "var"):
            values = np.exp(values)
        return values.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def expected(name, variables, row):
    """Float[m width]: the real places of the result for one row of IMAGE and TEXT."""
    params = variables.get("params", {})
    x, y = (np.asarray(f.values[row], np.float64) for f in (IMAGE, TEXT))
    x_kept, y_kept = (np.asarray(f.mask[row]) for f in (IMAGE, TEXT))
    if name == "film":
        return film(params, variables["batch_stats"], x, x_kept, y[y_kept].mean(0))
    return globals()[name](ALL[name], params, x[x_kept], y[y_kept])


# ---- fusion, params, x [n d], y [l e] -> values


def concat(fusion, p, x, y):
    return dense([[*x.mean(0), *word] for word in y], p["projection"])


def sum(fusion, p, x, y):
    return dense(x.mean(0), p["image_projection"]) + dense(y, p["text_projection"])


def product(fusion, p, x, y):
    return dense(x.mean(0), p["image_projection"]) * dense(y, p["text_projection"])


def gated(fusion, p, x, y):
    x = x.mean(0)
    z = 1 / (1 + np.exp(-dense(x, p["image_gate"]) - dense(y, p["text_gate"])))
    return z * np.tanh(dense(x, p["image"])) + (1 - z) * np.tanh(dense(y, p["text"]))


def mlb(fusion, p, x, y):
    products = np.tanh(dense(x.mean(0), p["image"])) * np.tanh(dense(y, p["text"]))
    return dense(products, p["output"])


def mutan(fusion, p, x, y):
    x, y = np.tanh(dense(x.mean(0), p["image"])), np.tanh(dense(y, p["text"]))
    n, m = p["image_core"]["kernel"], p["text_core"]["kernel"]  # [d rank width]
    core = np.einsum("irk,jrk->ijk", n, m)  # the whole tensor that is never made
    return np.einsum("i,lj,ijk->lk", x, y, core)


def mcb(fusion, p, x, y):
    """The count sketch of the outer product, entry by entry."""
    x_places, x_signs = bilinear.hashes(x.shape[1], fusion.width, seed=2 * fusion.seed)
    y_places, y_signs = bilinear.hashes(y.shape[1], fusion.width, seed=2 * fusion.seed + 1)
    z = np.zeros((len(y), fusion.width))
    for i, picture in enumerate(x.mean(0)):
        for j in range(y.shape[1]):
            place = (x_places[i] + y_places[j]) % fusion.width
            z[:, place] += x_signs[i] * y_signs[j] * picture * y[:, j]
    return normalised(z)


def mfb(fusion, p, x, y):
    u, v = p["image"]["kernel"], p["text"]["kernel"]  # [d width factors]
    matrices = np.einsum("ikf,jkf->kij", u, v)
    return normalised(np.einsum("i,kij,lj->lk", x.mean(0), matrices, y))


def film(p, statistics, x, kept, question):
    """x [6 d] and kept [6] with padding, which is a zero in a convolution; two rows of three places."""
    kept = kept.reshape(2, 3, 1)
    place = [[[-1, -1], [0, -1], [1, -1]], [[-1, 1], [0, 1], [1, 1]]]

    def placed(x):
        return np.concatenate([x, place], axis=-1) * kept

    def convolved(x, kernel):
        around = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        result = np.zeros((2, 3, kernel.shape[-1]))
        for row, column, i, j in np.ndindex(2, 3, 3, 3):
            result[row, column] += around[row + i, column + j] @ kernel[i, j]
        return result

    def normed(x, seen, affine):
        x = (x - seen["mean"]) / np.sqrt(seen["var"] + 1e-5)
        return x * affine.get("scale", 1) + affine.get("bias", 0)

    x = convolved(placed(x.reshape(2, 3, -1)), p["stem"]["conv"]["kernel"])
    x = relu(normed(x, statistics["stem"]["norm"], p["stem"]["norm"])) * kept
    for i, (delta, beta) in enumerate(dense(question, p["film"]).reshape(2, 2, -1)):
        block = p[f"block_{i}"]
        y = placed(x) @ block["pointwise"]["kernel"][0, 0] + block["pointwise"]["bias"]
        y = relu(y) * kept
        z = normed(convolved(y, block["conv"]["kernel"]), statistics[f"block_{i}"]["norm"], {})
        x = y + relu((1 + delta) * z + beta) * kept
    x = placed(x) @ p["output"]["conv"]["kernel"][0, 0]
    x = relu(normed(x, statistics["output"]["norm"], p["output"]["norm"]))
    return x[kept[..., 0]]


def cross_attention(fusion, p, x, y):
    x = layer_norm(x, p["image_norm"])
    for layer in (p["layer_0"], p["layer_1"]):
        y = y + attention(layer_norm(y, layer["attention_norm"]), x, layer["multi_head_attention"])
        y = y + mlp(layer_norm(y, layer["mlp_norm"]), layer["mlp"])
    return y


def parallel_co_attention(fusion, p, x, y):
    v = dense(x, p["image"])
    c = np.tanh(y @ dense(v, p["affinity"]).T)
    of_image, of_text = dense(v, p["image_hidden"]), dense(y, p["text_hidden"])
    a_v = softmax(dense(np.tanh(of_image + c.T @ of_text), p["image_scores"])[:, 0])
    a_q = softmax(dense(np.tanh(of_text + c @ of_image), p["text_scores"])[:, 0])
    return [a_v @ v + a_q @ y]


def alternating_co_attention(fusion, p, x, y):
    def look(x, hidden, scores, guide=0):
        return softmax(dense(np.tanh(dense(x, p[hidden]) + guide), p[scores])[:, 0]) @ x

    v = dense(x, p["image"])
    s = look(y, "summary_hidden", "summary_scores")
    v = look(v, "image_hidden", "image_scores", dense(s, p["image_guide"]))
    return [v + look(y, "text_hidden", "text_scores", dense(v, p["text_guide"]))]


def resampler(fusion, p, x, y):
    x = layer_norm(dense(x, p["image"]), p["image_norm"])
    z = p["latents"]
    for layer in (p["layer_0"], p["layer_1"]):
        normed = layer_norm(z, layer["attention_norm"])
        z = z + attention(normed, np.concatenate([x, normed]), layer["multi_head_attention"])
        z = z + mlp(layer_norm(z, layer["mlp_norm"]), layer["mlp"])
    return np.concatenate([layer_norm(z, p["norm"]), y])


def stacked_attention(fusion, p, x, y):
    v, u = np.tanh(dense(x, p["image"])), y[-1]
    for k in (1, 2):
        h = np.tanh(dense(v, p[f"places_{k}"]) + dense(u, p[f"query_{k}"]))
        u = softmax(dense(h, p[f"scores_{k}"])[:, 0]) @ v + u
    return [u]


def prefix(fusion, p, x, y):
    return np.concatenate([dense(x, p["projection"]), y])


def single_stream(fusion, p, x, y):
    x, layer = prefix(None, p["fusion"], x, y), p["layer_0"]
    normed = layer_norm(x, layer["attention_norm"])
    x = x + attention(normed, normed, layer["multi_head_attention"])
    x = x + mlp(layer_norm(x, layer["mlp_norm"]), layer["mlp"])
    return layer_norm(x, p["norm"])


# ---- layers


def dense(x, p):
    return np.asarray(x) @ np.asarray(p["kernel"], np.float64) + p.get("bias", 0)


def softmax(x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def relu(x):
    return np.maximum(x, 0)


def normalised(z):
    """The signed square root, at length 1."""
    z = np.sign(z) * np.sqrt(np.abs(z))
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def layer_norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def attention(queries, keys, p):
    q, k, v = (
        np.einsum("nd,dih->nih", x, p[name]["kernel"]) + p[name]["bias"]
        for x, name in ((queries, "query"), (keys, "key"), (keys, "value"))
    )
    weights = softmax(np.einsum("qih,nih->iqn", q, k) / np.sqrt(q.shape[-1]))
    seen = np.einsum("iqn,nih->qih", weights, v)
    return np.einsum("qih,ihd->qd", seen, p["output"]["kernel"]) + p["output"]["bias"]


def mlp(x, p):
    x = dense(x, p["hidden_layer"])
    x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))  # gelu
    return dense(x, p["output_layer"])
