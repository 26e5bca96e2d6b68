"""Published weights: what goes silently wrong between a file and a model."""

import json

import flax.linen as nn
import numpy as np

from tests.invariants import pretrained_checks
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.data import image_transforms, tiles
from vlm_jax.language import transformer
from vlm_jax.layers.activations import exact_gelu, quick_gelu
from vlm_jax.layers.norm import LayerNorm
from vlm_jax.layers.pooling import AttentionPooling
from vlm_jax.pretrained import clip, clip_vision, folder, mapping, places, processors, vit, weights
from vlm_jax.pretrained.settings import Settings
from vlm_jax.text.tokenizers import TokenizerFile

ROOM = "published weights"
CHOICE = (Settings, "choice")


# ---- parameters


@bug("query and key are exchanged", ROOM, (vit, "attention"), (clip_vision, "attention"))
def _(real, _same):
    def attention(
        ours, theirs, num_heads, *, names=("q_proj", "k_proj", "v_proj", "out_proj"), **f
    ):
        q, k, v, out = names
        return real(ours, theirs, num_heads, names=(k, q, v, out), **f)

    return attention, attention


@bug("key and value are exchanged", ROOM, (vit, "attention"), (clip_vision, "attention"))
def _(real, _same):
    def attention(
        ours, theirs, num_heads, *, names=("q_proj", "k_proj", "v_proj", "out_proj"), **f
    ):
        q, k, v, out = names
        return real(ours, theirs, num_heads, names=(q, v, k, out), **f)

    return attention, attention


@bug(
    "one tensor of query, key and value is read the other way round",
    ROOM,
    (places.FusedHeads, "to_ours"),
)
def _(real):
    return lambda self, tensor: real(self, tensor)[::-1]


@bug("square matrices of heads are not transposed", ROOM, (places.Heads, "to_ours"))
def _(real):
    def to_ours(self, tensor):
        square = tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1]
        return real(self, tensor.T if square else tensor)

    return to_ours


@bug("square matrices out of heads are not transposed", ROOM, (places.HeadsOut, "to_ours"))
def _(real):
    def to_ours(self, tensor):
        return real(self, tensor.T if tensor.shape[0] == tensor.shape[1] else tensor)

    return to_ours


@bug("heads lie across each other", ROOM, (places, "_split_heads"))
def _(real):
    def split(tensor, num_heads):
        shape = tensor.shape
        crossed = tensor.reshape(-1, num_heads, *shape[1:]).swapaxes(0, 1).reshape(shape)
        return real(crossed, num_heads)

    return split


@bug("a kernel's rows and columns are exchanged", ROOM, (places.Convolution, "to_ours"))
def _(real):
    return lambda self, tensor: (tensor.transpose(3, 2, 1, 0),)


@bug("colours of the first layer are BGR", ROOM, (places.Convolution, "to_ours"))
def _(real):
    def to_ours(self, tensor):
        return real(self, tensor[:, ::-1] if tensor.shape[1] == 3 else tensor)

    return to_ours


@bug("the class token's position comes last", ROOM, (places.Single, "to_ours"))
def _(real):
    def to_ours(self, tensor):
        return (np.roll(real(self, tensor)[0], -1, axis=0),)

    return to_ours


@bug("every norm has our epsilon", ROOM, (Settings, "number"))
def _(real):
    def number(self, key, *default):
        found = real(self, key, *default)
        return 1e-6 if key == "layer_norm_eps" else found

    return number


@bug("GELU by a tanh where it is by erf", ROOM, CHOICE)
def _(real):
    def choice(self, *arguments):
        found = real(self, *arguments)
        return nn.gelu if found is exact_gelu else found

    return choice


@bug("GELU where it is quick_gelu", ROOM, CHOICE)
def _(real):
    def choice(self, *arguments):
        found = real(self, *arguments)
        return exact_gelu if found is quick_gelu else found

    return choice


@bug("GELU by erf where it is by a tanh", ROOM, CHOICE)
def _(real):
    def choice(self, *arguments):
        found = real(self, *arguments)
        return exact_gelu if found is nn.gelu else found

    return choice


@bug("CLIP has no norm before its blocks", ROOM, (clip_vision, "_vit"))
def _(real):
    def made(*arguments, **fields):
        return real(*arguments, **{**fields, "norm_first": False})

    return made


@bug("CLIP's text is read at its last place", ROOM, (clip, "last_pool"))
def _(real):
    return lambda features: features.values[:, -1]


@bug("SigLIP does not see how its texts are filled", ROOM, (transformer, "filled"))
def _(real):
    return lambda tokens, token, length: tokens


@bug("pooling by attention adds what comes before its norm", ROOM, (AttentionPooling, "norm"))
def _(real):
    return property(lambda self: _Twice(), lambda self, value: None)


class _Twice(LayerNorm):
    def __call__(self, x, **fields):
        return 2 * super().__call__(x, **fields)


@bug("scale and bias of norms are exchanged", ROOM, (vit, "norm"), (clip_vision, "norm"))
def _(real, _same):
    def norm(ours, theirs, **fields):
        yield places.Same(ours=f"{ours}/scale", theirs=f"{theirs}.bias")
        yield places.Same(ours=f"{ours}/bias", theirs=f"{theirs}.weight")

    return norm, norm


# ---- cover


@bug("how often a tensor is used is not counted", ROOM, (mapping, "Counter"))
def _(real):
    return lambda names: dict.fromkeys(names, 1)


@bug("nothing is checked", ROOM, (mapping, "_check"))
def _(real):
    return lambda *arguments: None


@bug("shapes are not compared", ROOM, (mapping, "_misfits"))
def _(real):
    return lambda *arguments: ()


@bug("a tied head is dropped unseen", ROOM, (mapping, "_check_tied"))
def _(real):
    return lambda *arguments: None


@bug("a fresh head is filled", ROOM, (mapping, "matching"))
def _(real):
    return lambda rules, names, *, what: set()


@bug("running statistics stay as drawn", ROOM, (weights.PublishedWeights, "collections"))
def _(real):
    return lambda self, collections: collections


# ---- files


@bug("half precision is taken for bfloat16", ROOM, (folder.Folder, "tensor"))
def _(real):
    def tensor(self, name):
        found = real(self, name)
        return found.view(folder.DTYPES["BF16"]) if found.dtype == np.float16 else found

    return tensor


@bug("transposed views are written as they lie", ROOM, (mapping.np, "ascontiguousarray"))
def _(real):
    return lambda x, dtype=None: (
        x.T.ravel(order="K").reshape(x.shape) if np.ndim(x) == 2 else real(x)
    )


@bug("code that comes with the weights is welcome", ROOM, (folder, "read_json"))
def _(real):
    return lambda path: json.loads(path.read_text())


@bug("an index is believed", ROOM, (folder, "_indexed"))
def _(real):
    def indexed(path):
        named = json.loads((path / folder.INDEX).read_text())["weight_map"]
        return {name: path / file for name, file in named.items()}

    return indexed


@bug("rows of words stay in the file's order", ROOM, (Settings, "token_rows"))
def _(real):
    return lambda self, number, like=(): places.TokenRows(tuple(range(number)))


# ---- pictures


@bug("pictures are BGR", ROOM, (image_transforms.Decode, "decode"))
def _(real):
    return lambda self, image, name="image": real(self, image, name)[..., ::-1]


@bug("pictures are not antialiased", ROOM, (image_transforms, "_resized"))
def _(real):
    def resized(example, size, method, box=None):
        from PIL import Image

        image = example["image"]
        height, width = image.shape[:2]
        scale = (width / size[1], 0, 0, 0, height / size[0], 0)
        filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        picture = Image.fromarray(image)
        shape = (size[1], size[0])
        return np.asarray(picture.transform(shape, Image.Transform.AFFINE, scale, filters[method]))

    return resized


@bug("every picture is resized by one filter", ROOM, (processors, "METHODS"))
def _(real):
    return dict.fromkeys(real, "bilinear")


@bug("the longer side is rounded to the nearest", ROOM, (processors, "ResizeShorter"))
def _(real):
    return lambda *, rounding, **fields: real(**fields)


@bug("the crop is one off the centre", ROOM, (image_transforms, "_centre"))
def _(real):
    def centre(image, height, width):
        top, left = (image.shape[0] - height + 1) // 2, (image.shape[1] - width + 1) // 2
        return image[top : top + height, left : left + width]

    return centre


@bug("pictures are normalised as ImageNet's", ROOM, (processors, "_normalise"))
def _(real):
    return lambda settings, kind: image_transforms.Normalise()


@bug("pictures are in [0, 1] and not normalised", ROOM, (processors, "_normalise"))
def _(real):
    return lambda settings, kind: image_transforms.ToFloat()


@bug("the rescale factor is not read", ROOM, (Settings, "number"))
def _(real):
    def number(self, key, *default):
        return 1 / 255 if key == "rescale_factor" else real(self, key, *default)

    return number


@bug("crop_pct is not read", ROOM, (Settings, "number"))
def _(real):
    def number(self, key, *default):
        return 224 / 256 if key == "crop_pct" else real(self, key, *default)

    return number


bug("rows of squares are taken for columns", ROOM, (tiles.Tiles, "_squares"))(
    lambda real: lambda self, height, width: real(self, height, width)[::-1]
)
bug("squares that a picture does not have are grey", ROOM, (np, "pad"))(
    lambda real: lambda array, *arguments: real(array, *arguments, constant_values=0.1)
)
bug("a prompt names the squares column by column", ROOM, (tiles, "layout"))(
    lambda real: lambda places, rows, columns: real(places, columns, rows)
)


@bug("the whole picture is the first of its squares", ROOM, (tiles, "layout"))
def _(real):
    def layout(places, rows, columns):
        *squares, whole = real(places, rows, columns).rsplit("\n", 1)
        return "\n".join([whole, *squares])

    return layout


@bug(
    "a question's <image> is a picture's place",
    ROOM,
    (TokenizerFile, "encode"),
    (TokenizerFile, "encode_behind"),
)
def _(real, behind):
    def read(self, text):
        return self.encode_special(text)

    return read, read


ROOMS = {ROOM: Room(pretrained_checks.CHECKS, pretrained_checks.folders)}
