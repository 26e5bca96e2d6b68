"""MobileNetV2's published ImageNet weights into our parameters.

The file holds the constants of the official quantised TFLite model, dequantised to float32:
`__meta__` lists the operators in order, `t<i>` are their constants. Its classes are 1001, number 0
being 'background'. The quantised model also clips the linear outputs to what a byte can hold; left
out here, that changes none of the first labels of ten photographs.
"""

import dataclasses
import json
import os
import pathlib
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vlm_jax.types import Variables
from vlm_jax.vision.mobilenet import STAGES

FILE_NAME = "mobilenet_v2_1.0_224_quant.float32.npz"

# The input is (byte - 128) / 128. For a picture in [0, 1]: (picture - MEAN) / STD.
MEAN = 128 / 255
STD = 128 / 255


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileNetV2Weights:
    """Fills the parameters of a `mobilenet_v2_folded()` inside `variables`, or inside params alone.

    `file` defaults to $VLM_JAX_DATA/pretrained/<FILE_NAME>. `scope` says where the network lies
    among the parameters ('image_encoder'); '' means they are nothing else. The classifier is filled
    where the network has one. Anything left over on either side is an error.
    """

    file: str | None = None
    scope: str = ""

    def __call__(self, variables: Variables) -> Variables:
        if "params" in variables:
            return {**variables, "params": self._fill(variables["params"])}
        return self._fill(variables)

    def _fill(self, params: Mapping[str, Any]) -> dict[str, Any]:
        path = _find(self.file)
        given = _read(path)
        params = flatten_dict(dict(params), sep="/")
        prefix = f"{self.scope}/" if self.scope else ""
        wanted = {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}
        if not wanted:
            raise ValueError(
                f"scope={self.scope!r} names no parameters; there are "
                f"{sorted({k.split('/')[0] for k in params})}. Try one of these as scope."
            )
        if not any(name.startswith("head/") for name in wanted):
            given = {k: v for k, v in given.items() if not k.startswith("head/")}
        _check(path, given, wanted)
        filled = {prefix + k: jnp.asarray(v, wanted[k].dtype) for k, v in given.items()}
        return unflatten_dict({**params, **filled}, sep="/")


def _find(file: str | None) -> pathlib.Path:
    if file is None:
        root = os.environ.get("VLM_JAX_DATA")
        if root is None:
            raise FileNotFoundError(
                f"No file given, and VLM_JAX_DATA is not set, under which pretrained/{FILE_NAME} "
                "would be looked for. Try MobileNetV2Weights(file=...)."
            )
        file = os.path.join(root, "pretrained", FILE_NAME)
    path = pathlib.Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there; expected MobileNetV2's weights, {FILE_NAME}."
        )
    return path


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Our parameter names -> arrays; every tensor of the file is used exactly once."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            tensors = {name: archive[name] for name in archive.files}
        operators = json.loads(str(tensors.pop("__meta__")))["ops"]
        steps = [(op["op"], [f"t{i}" for i in op["in"] if f"t{i}" in tensors]) for op in operators]
    except (ValueError, KeyError, TypeError, AttributeError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not the MobileNetV2 file: {type(error).__name__}: {error}. Expected an npz "
            f"of plain arrays with '__meta__' and tensors t<i>, {FILE_NAME}."
        ) from error

    uses = Counter(name for _, constants in steps for name in constants)
    unsound = sorted(name for name in tensors if uses[name] != 1)
    if unsound:
        raise ValueError(f"{path}: tensors not used exactly once by its operators: {unsound}.")

    convolutions = [(op, names) for op, names in steps if op in _LAYOUT]
    places = list(_places())
    if [op for op, _ in convolutions] != [op for op, _ in places]:
        raise ValueError(
            f"{path} holds {len(convolutions)} convolutions; expected MobileNetV2 1.0's "
            f"{len(places)}, in its order of ordinary and depthwise."
        )
    given: dict[str, np.ndarray] = {}
    for (op, (kernel, bias)), (_, place) in zip(convolutions, places):
        kernel = tensors[kernel].transpose(_LAYOUT[op])
        given[f"{place}/kernel"] = kernel[0, 0] if place == "head" else kernel
        given[f"{place}/bias"] = tensors[bias]
    return given


# To [height width in out]: TFLite keeps [out height width in], depthwise [1 height width channel].
_LAYOUT: dict[str, tuple[int, ...]] = {
    "CONV_2D": (1, 2, 3, 0),
    "DEPTHWISE_CONV_2D": (1, 2, 0, 3),
}


def _places() -> Iterator[tuple[str, str]]:
    """The kind and our name of each convolution, in the order of the network."""
    yield "CONV_2D", "stem/conv"
    block = 0
    for expansion, _, num_blocks, _ in STAGES:
        for _ in range(num_blocks):
            if expansion != 1:
                yield "CONV_2D", f"block_{block}/expand/conv"
            yield "DEPTHWISE_CONV_2D", f"block_{block}/depthwise/conv"
            yield "CONV_2D", f"block_{block}/project/conv"
            block += 1
    yield "CONV_2D", "last/conv"
    yield "CONV_2D", "head"


def _check(path: pathlib.Path, given: dict[str, np.ndarray], wanted: dict[str, Any]) -> None:
    without_place = [f"{k} {given[k].shape}" for k in sorted(given.keys() - wanted.keys())]
    without_tensor = [f"{k} {wanted[k].shape}" for k in sorted(wanted.keys() - given.keys())]
    differing = [
        f"{k}: file {given[k].shape}, model {wanted[k].shape}"
        for k in sorted(given.keys() & wanted.keys())
        if given[k].shape != wanted[k].shape
    ]
    if without_place or without_tensor or differing:
        raise ValueError(
            f"{path} does not fit this model.\n"
            f"  In the file, without a place in the model: {without_place}\n"
            f"  In the model, not filled by the file: {without_tensor}\n"
            f"  Of another shape: {differing}\n"
            "Expected mobilenet_v2_folded(), with num_classes=1001 or None."
        )
