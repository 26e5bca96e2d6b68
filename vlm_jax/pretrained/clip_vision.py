"""The eyes of CLIP (Radford et al. 2021, arXiv 2103.00020) and of SigLIP (Zhai et al. 2023, arXiv 2303.15343), as they
stand in larger models: patches to vectors, without the pooling that their own towers end with."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from vlm_jax.layers.norm import LayerNorm
from vlm_jax.pretrained.places import (
    Convolution,
    Place,
    Same,
    Unused,
    Vector,
    attention,
    below,
    convolution,
    linear,
    norm,
)
from vlm_jax.pretrained.settings import ACTIVATIONS, Settings
from vlm_jax.vision.vit import Vit

# Files written by transformers 5 for a model made there leave a level out.
FLAT = ((r"^vision_tower\.vision_model\.", "vision_tower."), (r"^vision_model\.", ""))


def clip(
    settings: Settings, *, num_layers: int | None = None, patch_size: int = 32, **fields
) -> Vit:
    """CLIPVisionModel's: a class token, a norm before the first block. `num_layers`: of the first blocks, without the last
    norm. `patch_size` is what a file that leaves it out means."""
    cut = num_layers is not None
    own = {"norm_first": True, "patch_bias": False, "norm_last": not cut}
    sizes = (768, 12, 224, patch_size)
    return _vit(settings, num_layers, "quick_gelu", 1e-5, sizes, **own, **fields)


def siglip(
    settings: Settings, sizes: tuple[int, int, int, int] = (768, 12, 224, 16), **fields
) -> Vit:
    """SiglipVisionModel's: no class token. The width, heads, picture and patch in `sizes` are what a file that leaves them
    out means."""
    return _vit(settings, None, "gelu_pytorch_tanh", 1e-6, sizes, class_token=False, **fields)


def clip_places(vit: Vit, *, of: int | None = None) -> tuple[Place, ...]:
    """As CLIPVisionModel names them; the file has `of` blocks, those beyond ours stay there."""
    found = [
        Vector(ours="class_token", theirs="embeddings.class_embedding"),
        Convolution(ours="patches/kernel", theirs="embeddings.patch_embedding.weight"),
        *norm("first_norm", "pre_layrnorm"),
        *_rest(vit),
    ]
    if not vit.norm_last:
        found += _left(range(vit.num_layers, of or vit.num_layers))
    return tuple(found)


def siglip_places(vit: Vit) -> tuple[Place, ...]:
    """As SiglipVisionModel names them."""
    return (*convolution("patches", "embeddings.patch_embedding"), *_rest(vit))


def image_of(settings: Settings, vit: Vit) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(
        (1, *vit.image_size, settings.integer("num_channels", 3)), jnp.float32
    )


def _vit(settings: Settings, num_layers, activation, epsilon, sizes, **fields) -> Vit:
    all_layers = settings.integer("num_hidden_layers", 12)
    width, num_heads, image_size, patch_size = sizes
    return Vit(
        width=settings.integer("hidden_size", width),
        num_layers=all_layers if num_layers is None else num_layers,
        num_heads=settings.integer("num_attention_heads", num_heads),
        hidden=settings.integer("intermediate_size", 3072),
        image_size=settings.size("image_size", image_size),
        patch_size=settings.integer("patch_size", patch_size),
        drop_rest=True,
        activation=settings.choice("hidden_act", ACTIVATIONS, activation),
        norm=LayerNorm(epsilon=settings.number("layer_norm_eps", epsilon)),
        **fields,
    )


def _rest(vit: Vit) -> Iterator[Place]:
    yield Same(ours="positions/positions", theirs="embeddings.position_embedding.weight")
    yield Unused(theirs="embeddings.position_ids")
    if vit.norm_last:
        yield from norm("norm", "post_layernorm")
    else:
        yield from (Unused(theirs=f"post_layernorm.{kind}") for kind in ("weight", "bias"))
    for i in range(vit.num_layers):
        yield from below(block(vit.num_heads), f"block_{i}/", f"encoder.layers.{i}.")


def block(heads: int, name: str = "attention") -> Iterator[Place]:
    """One block of either tower; `name` is what its attention is called with us."""
    yield from norm(f"{name}_norm", "layer_norm1")
    yield from attention(name, "self_attn", heads)
    yield from norm("mlp_norm", "layer_norm2")
    yield from linear("mlp/hidden_layer", "mlp.fc1")
    yield from linear("mlp/output_layer", "mlp.fc2")


def _left(blocks: range) -> Iterator[Place]:
    names = [name for place in block(1) for name in place.theirs]
    return (Unused(theirs=f"encoder.layers.{i}.{name}") for i in blocks for name in names)
