"""Published weights as the beginning of an experiment, or as a model of their own.

model, variables, *_ = load("google/vit-base-patch16-224", revision="3f49326e...")
Experiment(init_params=PublishedWeights(folder="vit-base", scope="image_encoder"), ...)
"""

import dataclasses
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from vlm_jax.pretrained import (
    bert,
    blip,
    clip,
    convnext,
    gemma,
    git,
    gpt2,
    idefics3,
    llama,
    llava,
    mobilenet_v2,
    paligemma,
    resnet,
    siglip,
    t5,
    vision_encoder_decoder,
    vit,
)
from vlm_jax.pretrained.folder import Folder, open_folder
from vlm_jax.pretrained.mapping import fill, named, unnamed
from vlm_jax.pretrained.places import Place, Rows, Tied, below
from vlm_jax.pretrained.settings import Family, Settings
from vlm_jax.text.tokenizers import TokenizerFile
from vlm_jax.types import Variables

# Each with READERS: architecture -> Settings -> Family.
FAMILIES = (
    convnext,
    mobilenet_v2,
    resnet,
    vit,
    gpt2,
    llama,
    gemma,
    t5,
    bert,
    vision_encoder_decoder,
    clip,
    siglip,
    blip,
    git,
    llava,
    paligemma,
    idefics3,
)


class Published(NamedTuple):
    """`ignored` are the keys of config.json that say nothing to us; `tokenizer` is the one whose rows the tables have, None
    where the folder has none."""

    model: nn.Module
    variables: Variables
    family: Family
    folder: Folder
    ignored: tuple[str, ...]
    tokenizer: Any = None


def load(
    folder: str,
    *,
    revision: str | None = None,
    architecture: str | None = None,
    dtype: Any = None,
    sharding: Callable[[str, jax.ShapeDtypeStruct], jax.sharding.Sharding | None] | None = None,
) -> Published:
    """The model of a folder, or of a name of the hub at a commit, with its weights.

    `architecture` is what the file is read as ("BertModel"), config.json's unless given.
    `dtype` is that of the floating parameters, float32 unless given. `sharding(name, shape)` says where each lies.
    A model of texts whose folder has no tokenizer.json gets its tokens in the file's order, and a warning.
    """
    opened = open_folder(folder, revision)
    tokenizer = tokenizer_of(opened, architecture)
    family, ignored = read(opened, tokenizer, architecture)
    if tokenizer is None and any(isinstance(place, Rows) for place in family.places):
        warnings.warn(
            f"{opened.path} has no tokenizer.json: its tokens keep their order, but here 0, 1, 2 and 3 are padding, beginning, "
            "end and unknown, whatever the file has there; put its tokenizer.json beside the weights",
            stacklevel=2,
        )

    def place(name, leaf):
        floating = jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)
        kind = dtype if dtype is not None and floating else leaf.dtype
        where = None if sharding is None else sharding(name, leaf)
        return jax.ShapeDtypeStruct(leaf.shape, kind, sharding=where)

    wanted = _together(opened, lambda: shapes(family))
    leaves = {name: place(name, leaf) for name, leaf in named(wanted).items()}
    variables = fill(unnamed(leaves), opened, family.places)
    return Published(
        family.model, variables, family, opened, ignored, of_all_rows(tokenizer, family)
    )


def read(
    folder: Folder, tokenizer: Any = None, architecture: str | None = None
) -> tuple[Family, tuple[str, ...]]:
    """The folder's family by its architecture, or the one that is given, and the settings that were ignored; no weights are read.

    `tokenizer` is the TokenizerFile whose rows the tables get, where a text is read: by default the folder's.
    """
    name, home = _reader(folder, architecture)
    if tokenizer is None:
        tokenizer = tokenizer_of(folder, architecture)
    settings = Settings(folder.config, tokenizer)
    family = _together(folder, lambda: home.READERS[name](settings))
    return family._replace(places=spelled(family, folder)), settings.ignored()


def tokenizer_of(folder: Folder, architecture: str | None = None) -> TokenizerFile | None:
    """The folder's tokenizer with the token that ends an answer as EOS, which some families write before the end of the
    text; None where there is no tokenizer.json."""
    if not (Path(folder.path) / "tokenizer.json").exists():
        return None
    ending = getattr(_reader(folder, architecture)[1], "ENDING", None)
    if ending is None or not folder.has_token(ending):
        return folder.tokenizer()
    return folder.tokenizer(eos_token=ending)


def of_all_rows(tokenizer: TokenizerFile | None, family: Family) -> TokenizerFile | None:
    """The tokenizer that declares as many rows as the decoder writes: tables often have more than there are tokens. Of what
    has none it writes nothing."""
    rows = getattr(getattr(family.model, "decoder", None), "vocab_size", 0)
    if tokenizer is None or rows <= tokenizer.vocab_size:
        return tokenizer
    return dataclasses.replace(tokenizer, vocab_size=rows)


def _reader(folder: Folder, architecture: str | None) -> tuple[str, Any]:
    """The architecture that is ours, and the module of its family."""
    homes = {name: family for family in FAMILIES for name in family.READERS}
    given = (architecture,) if architecture else Settings(folder.config).words("architectures")
    known = [name for name in given if name in homes]
    if not known:
        raise ValueError(
            f"{folder.path}: the architectures are {list(given)}, model_type {folder.config.get('model_type')!r}; we "
            f"have {', '.join(sorted(homes))}"
        )
    return known[0], homes[known[0]]


def _together(folder: Folder, made: Callable[[], Any]) -> Any:
    """What is made of config.json; settings that do not go together are the file's fault, and said to be."""
    try:
        return made()
    except (ArithmeticError, LookupError, TypeError) as error:
        raise ValueError(
            f"{folder.path}: config.json has settings that do not go together: {type(error).__name__}: {error}"
        ) from error


def spelled(family: Family, folder: Folder) -> tuple[Place, ...]:
    """The family's places with the names that this file has for its tensors."""
    if not family.older:
        return family.places
    there = set(folder.names())

    def found(name: str) -> str:
        for pattern, replacement in family.older:
            if name not in there and (other := re.sub(pattern, replacement, name)) in there:
                name = other
        return name

    def renamed(place: Place) -> Place:
        changes = {"theirs": tuple(found(name) for name in place.theirs)}
        if isinstance(place, Tied):
            changes["to"] = found(place.to)
        return dataclasses.replace(place, **changes)

    places = (renamed(place) for place in family.places)
    return tuple(x for x in places if not (isinstance(x, Tied) and x.theirs == (x.to,)))


def shapes(family: Family) -> Variables:
    """Of all variables of the model, without computing any."""
    return jax.eval_shape(
        lambda *example: family.model.init(
            jax.random.key(0), *example, train=False, method=family.method
        ),
        *family.example,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """`Experiment.init_params` or `Encoded.init_params`: parameters (or all variables) with the weights of `folder`.

    `scope` is where the published model lies in ours ('image_encoder'), '' where it is all of it; `part` is the part of
    the published model that is wanted ('image_encoder' of CLIP), '' for all of it. A classifier of the file is left
    where ours has none. Parameters that a regular expression of `fresh` finds keep what was drawn, such as a classifier
    of other classes. `tokenizer` is the experiment's, where a text is read, so that each row is the same token's.

    `folder` may be 'owner/name' of the hub, at the commit `revision`. With an `architecture` the file is read as that
    one: "BertModel", where config.json says BertForMaskedLM and the encoder alone is wanted. `sha256` are the sums of the
    files of weights, in the order of their names, where they have to be those very ones.
    """

    folder: str
    scope: str = ""
    part: str = ""
    revision: str | None = None
    architecture: str | None = None
    tokenizer: Any = None
    fresh: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()

    def __call__(self, variables: Variables) -> Variables:
        """Given params, params; given variables, with the other collections too."""
        if "params" in variables:
            return self._filled(variables)
        return self._filled({"params": variables}, only="params")["params"]

    def collections(self, collections: Variables) -> Variables:
        """The running statistics and whatever else beside the parameters the file has."""
        return {**collections, **self._filled(collections, only="others")}

    def _filled(self, variables: Variables, only: str = "") -> Variables:
        opened = open_folder(self.folder, self.revision)
        if self.sha256:
            opened.check_sums(self.sha256)
        family, _ = read(opened, self.tokenizer, self.architecture)
        leaves = named(variables)
        if not any(_is_below(self.part, name) for place in family.places for name in place.ours):
            parts = sorted({name.split("/")[0] for place in family.places for name in place.ours})
            raise ValueError(
                f"part={self.part!r} names nothing in {opened.path}; there are {', '.join(parts)}"
            )
        places, left = self._chosen(family, leaves, only)
        inside = {name: leaf for name, leaf in leaves.items() if _is_below(self.scope, name)}
        if not inside and only != "others":
            raise ValueError(
                f"scope={self.scope!r} names no parameters; there are "
                f"{sorted({name.split('/')[0] for name in leaves})}. Try one of these as scope."
            )
        # Each rule has to find a parameter; beside the parameters it may find nothing.
        fresh = tuple(
            r for r in self.fresh if only != "others" or any(re.search(r, n) for n in inside)
        )
        filled = fill(unnamed(inside), opened, places, left=left, fresh=fresh)
        return unnamed(leaves | named(filled))

    def _chosen(
        self, family: Family, leaves: Mapping[str, Any], only: str
    ) -> tuple[list[Place], list[Place]]:
        """The places that are ours, named as ours are, and those whose tensors stay in the file."""
        places, left = [], []
        start = f"{self.scope}/" if self.scope else ""
        for place in family.places:
            collections = {name.rpartition(":")[0] for name in place.ours}
            wanted = all(_is_below(self.part, name) for name in place.ours)
            if only and place.ours:
                wanted &= (collections == {""}) == (only == "params")
            if not wanted:
                left.append(place)
                continue
            short = tuple(_without(self.part, name) for name in place.ours)
            moved = below([dataclasses.replace(place, ours=short)], ours=start)[0]
            heads = [name for name in place.ours if any(_is_below(h, name) for h in family.heads)]
            if heads and not any(name in leaves for name in moved.ours):
                left.append(place)
            else:
                places.append(moved)
        return places, left


def _is_below(scope: str, name: str) -> bool:
    return not scope or name.rpartition(":")[2].startswith(f"{scope}/")


def _without(scope: str, name: str) -> str:
    collection, colon, rest = name.rpartition(":")
    return f"{collection}{colon}{rest.removeprefix(f'{scope}/')}" if scope else name
