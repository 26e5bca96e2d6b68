import json
import os
import pathlib
import pickle
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vlm_jax.pretrained.mobilenet import FILE_NAME, MEAN, STD, MobileNetV2Weights
from vlm_jax.vision.mobilenet import STAGES, mobilenet_v2, mobilenet_v2_folded

DATA = os.environ.get("VLM_JAX_DATA")
needs_data = pytest.mark.skipif(
    DATA is None, reason="VLM_JAX_DATA is not set; looked there for pretrained/"
)

# What is on the photograph, in the words of the labels. The owl, a burrowing owl, is none of the
# thousand classes: the network says 'ruffed grouse', a bird of the same plumage.
PHOTOGRAPHS = {
    "bird.png": {"chickadee"},
    "cat.png": {"Egyptian cat", "tabby", "tiger cat"},
    "cat_720p.jpg": {"Egyptian cat", "tabby", "tiger cat"},
    "dragonfly.png": {"dragonfly"},
    "grace_hopper.png": {"military uniform"},
    "hot_dog.jpg": {"hotdog"},
    "missvickie_potato_chips.png": {"packet"},
    "owl.jpg": {"ruffed grouse"},
    "parrot.jpg": {"macaw"},
    "pets.jpg": {"Italian greyhound", "Boston bull"},
}


def _shapes(model):
    """The variables of `model`, as shapes."""
    image = jnp.zeros((1, 32, 32, 3))  # the parameters do not depend on the size
    method = "__call__" if model.num_classes is None else "logits"
    return jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False, method=method))


def _tensors():
    """A file of the published layout with numbers of our own: (operators, tensors)."""
    rng = np.random.default_rng(0)
    operators, tensors = [], {}

    def convolution(kind, shape):
        number = len(tensors)
        tensors[f"t{number}"] = rng.standard_normal(shape, np.float32)
        tensors[f"t{number + 1}"] = rng.standard_normal(
            shape[-1 if kind[0] == "D" else 0], np.float32
        )
        operators.append({"op": kind, "in": [900, number, number + 1], "out": [901]})

    convolution("CONV_2D", (32, 3, 3, 3))
    channels = 32
    for expansion, width, num_blocks, _ in STAGES:
        for _ in range(num_blocks):
            hidden = channels * expansion
            if expansion != 1:
                convolution("CONV_2D", (hidden, 1, 1, channels))
            convolution("DEPTHWISE_CONV_2D", (1, 3, 3, hidden))
            convolution("CONV_2D", (width, 1, 1, hidden))
            operators.append({"op": "ADD", "in": [901, 902], "out": [903]})
            channels = width
    convolution("CONV_2D", (1280, 1, 1, 320))
    convolution("CONV_2D", (1001, 1, 1, 1280))
    return operators, tensors


def _write(path, operators, tensors):
    np.savez(path, __meta__=np.array(json.dumps({"ops": operators})), **tensors)
    return str(path)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    operators, tensors = _tensors()
    path = tmp_path_factory.mktemp("weights") / "weights.npz"
    return _write(path, operators, tensors), operators, tensors


def test_every_parameter_is_filled_from_its_own_tensor(small_file):
    file, operators, tensors = small_file
    variables = MobileNetV2Weights(file=file)(_shapes(mobilenet_v2_folded(num_classes=1001)))
    params = variables["params"]
    assert not any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(variables))
    assert sum(x.size for x in jax.tree.leaves(params)) == sum(x.size for x in tensors.values())
    # The values of all tensors together, without the order of axes.
    ours = sorted(float(np.asarray(x, np.float64).sum()) for x in jax.tree.leaves(params))
    theirs = sorted(float(x.astype(np.float64).sum()) for x in tensors.values())
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    # Axes: [out height width in] -> [height width in out], [1 height width channel] -> [... 1 channel].
    kernel = params["stem"]["conv"]["kernel"]
    assert kernel[0, 1, 2, 30] == tensors["t0"][30, 0, 1, 2]
    kernel = params["block_0"]["depthwise"]["conv"]["kernel"]
    assert kernel[0, 1, 0, 30] == tensors["t2"][0, 0, 1, 30]
    assert params["block_0"]["project"]["conv"]["bias"][5] == tensors["t5"][5]
    last = max(int(name[1:]) for name in tensors)
    assert params["head"]["kernel"][7, 1000] == tensors[f"t{last - 1}"][1000, 0, 0, 7]


def test_an_encoder_inside_a_model_is_filled_and_the_rest_left_alone(small_file):
    file, _, _ = small_file
    encoder = _shapes(mobilenet_v2_folded())["params"]
    decoder = {"kernel": jnp.ones((2, 3))}
    params = {"image_encoder": encoder, "decoder": decoder}
    weights = MobileNetV2Weights(file=file, scope="image_encoder")
    filled = weights({"params": params, "cache": {}})
    assert filled["params"]["decoder"]["kernel"] is decoder["kernel"]
    assert "head" not in filled["params"]["image_encoder"]
    assert not any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(filled))
    alone = weights(params)  # parameters without the collection round them
    assert jax.tree.structure(alone) == jax.tree.structure(filled["params"])
    with pytest.raises(ValueError, match=r"scope='encoder'.*decoder.*image_encoder"):
        MobileNetV2Weights(file=file, scope="encoder")(params)


def test_a_model_of_another_form_is_refused_with_both_sides_listed(small_file):
    file, _, _ = small_file
    with pytest.raises(ValueError) as error:
        MobileNetV2Weights(file=file)(_shapes(mobilenet_v2()))
    message = str(error.value)
    assert "without a place in the model: ['block_0/depthwise/conv/bias (32,)'" in message
    assert "not filled by the file: ['block_0/depthwise/norm/bias (32,)'" in message
    assert "mobilenet_v2_folded()" in message
    with pytest.raises(ValueError, match=r"head/bias: file \(1001,\), model \(1000,\)"):
        MobileNetV2Weights(file=file)(_shapes(mobilenet_v2_folded(num_classes=1000)))


@pytest.mark.parametrize("fault", ["unused tensor", "tensor used twice", "missing operator"])
def test_a_file_that_does_not_add_up_is_refused_by_name(small_file, tmp_path, fault):
    _, operators, tensors = small_file
    operators, tensors = json.loads(json.dumps(operators)), dict(tensors)
    if fault == "unused tensor":
        tensors["t555"] = np.zeros(3, np.float32)
    elif fault == "tensor used twice":
        operators[1]["in"] = operators[0]["in"]
    else:
        tensors = {k: v for k, v in tensors.items() if k not in ("t0", "t1")}
        operators = operators[1:]
    file = _write(tmp_path / "strange.npz", operators, tensors)
    with pytest.raises(ValueError, match="strange.npz"):
        MobileNetV2Weights(file=file)(_shapes(mobilenet_v2_folded()))


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path(self.path),))


@pytest.mark.parametrize("kind", ["html", "npy", "pickle", "object array", "no meta", "truncated"])
def test_other_files_are_refused_by_name_and_run_nothing(small_file, tmp_path, kind):
    canary, path = tmp_path / "canary", tmp_path / "strange.npz"
    if kind == "html":
        path.write_bytes(b"<html>404</html>")
    elif kind == "npy":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(_Bomb(canary)))
    elif kind == "object array":
        np.savez(path, __meta__=np.array([_Bomb(canary)], object))
    elif kind == "no meta":
        np.savez(path, t1=np.zeros(3))
    else:
        path.write_bytes(pathlib.Path(small_file[0]).read_bytes()[:100_000])
    with pytest.raises(ValueError, match="strange.npz is not the MobileNetV2 file"):
        MobileNetV2Weights(file=str(path))(_shapes(mobilenet_v2_folded()))
    assert not canary.exists()


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nowhere.npz"):
        MobileNetV2Weights(file=str(tmp_path / "nowhere.npz"))({"params": {}})
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="VLM_JAX_DATA is not set"):
        MobileNetV2Weights()({"params": {}})


@needs_data
def test_the_published_weights_name_the_ten_photographs():
    folder = pathlib.Path(DATA) / "pretrained"
    labels = (folder / "imagenet_labels.txt").read_text().splitlines()
    model = mobilenet_v2_folded(num_classes=1001)
    variables = MobileNetV2Weights(file=str(folder / FILE_NAME))(_shapes(model))

    def read(name):
        image = Image.open(folder / "photos" / name).convert("RGB")
        return np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR)) / np.float32(255)

    @jax.jit
    def classify(variables, image):
        logits = model.apply(variables, (image - MEAN) / STD, train=False, method="logits")
        return logits.argmax(axis=-1)

    started = time.perf_counter()
    classes = classify(variables, jnp.stack([read(name) for name in PHOTOGRAPHS]))
    said = {name: labels[k].split(",")[0] for name, k in zip(PHOTOGRAPHS, np.asarray(classes))}
    print(f"{said} in {time.perf_counter() - started:.1f} s")
    wrong = {name: word for name, word in said.items() if word not in PHOTOGRAPHS[name]}
    assert not wrong
