"""Which tensors of a published file are which parameters of ours, and how, both ways.

Our names are written with '/', 'block_0/attention/query/kernel'; what is not among the parameters says in which
collection it is, 'batch_stats:stem/norm/mean'. The file's are written with '.'. PyTorch keeps a linear layer as
[out in] where Flax has [in out], and attention as one matrix where ours has an axis of heads.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from vlm_jax.types import PAD

Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Parameters `ours` and tensors `theirs` that hold the same numbers, one name each or several."""

    ours: str | tuple[str, ...]
    theirs: str | tuple[str, ...]

    def __post_init__(self):
        for field in ("ours", "theirs"):
            names = getattr(self, field)
            object.__setattr__(self, field, (names,) if isinstance(names, str) else tuple(names))

    def to_ours(self, *tensors: np.ndarray) -> Arrays:
        """The arrays of `ours`, given the tensors of `theirs`."""
        raise NotImplementedError

    def to_theirs(self, *arrays: np.ndarray) -> Arrays:
        """The way back."""
        raise NotImplementedError


class Same(Place):
    """As it is: biases, scales, tables."""

    def to_ours(self, tensor):
        return (tensor,)

    def to_theirs(self, array):
        return (array,)


class Single(Place):
    """[1 ...] -> [...]: position tables that are kept with an axis for the batch."""

    def to_ours(self, tensor):
        if tensor.ndim < 1 or tensor.shape[0] != 1:
            raise ValueError(f"expected [1 ...], found {tensor.shape}")
        return (tensor[0],)

    def to_theirs(self, array):
        return (array[None],)


class Vector(Place):
    """[d] -> [1 1 d]: a token's vector that the file keeps without axes for batch and place."""

    def to_ours(self, tensor):
        _check_rank(tensor, 1)
        return (tensor[None, None],)

    def to_theirs(self, array):
        return (array[0, 0],)


class Linear(Place):
    """[out in] -> [in out]."""

    def to_ours(self, tensor):
        _check_rank(tensor, 2)
        return (tensor.T,)

    def to_theirs(self, array):
        return (array.T,)


class Convolution(Place):
    """[out in h w] -> [h w in out], depthwise ones too, whose `in` is 1."""

    def to_ours(self, tensor):
        _check_rank(tensor, 4)
        return (tensor.transpose(2, 3, 1, 0),)

    def to_theirs(self, array):
        return (array.transpose(3, 2, 0, 1),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patches(Place):
    """A linear layer over the numbers of a square, row by row, colours last: [out size*size*in] -> [size size in out]."""

    size: int

    def to_ours(self, tensor):
        _check_rank(tensor, 2)
        return (tensor.T.reshape(self.size, self.size, -1, tensor.shape[0]),)

    def to_theirs(self, array):
        return (array.reshape(-1, array.shape[-1]).T,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heads(Place):
    """A linear layer into `num_heads` heads: [heads*d in] -> [in heads d]; its bias [heads*d] -> [heads d]."""

    num_heads: int

    def to_ours(self, tensor):
        return (_split_heads(tensor, self.num_heads),)

    def to_theirs(self, array):
        return (_joined_heads(array),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadsOut(Place):
    """A linear layer out of `num_heads` heads: [out heads*d] -> [heads d out].

    `transposed`: the file has [heads*d out], as GPT-2's layers do.
    """

    num_heads: int
    transposed: bool = False

    def to_ours(self, tensor):
        _check_rank(tensor, 2)
        tensor = tensor if self.transposed else tensor.T
        return (tensor.reshape(self.num_heads, -1, tensor.shape[1]),)

    def to_theirs(self, array):
        joined = array.reshape(-1, array.shape[-1])
        return (joined if self.transposed else joined.T,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FusedHeads(Place):
    """Query, key and value, or some of them, one after another in one tensor: [sum(heads)*d in], or a bias without `in`.

    `heads` is how many each of them has. `transposed`: the file has [in sum(heads)*d], as GPT-2's layers do.
    """

    heads: tuple[int, ...]
    transposed: bool = False

    def to_ours(self, tensor):
        tensor = tensor.T if self.transposed else tensor
        total = sum(self.heads)
        if tensor.ndim < 1 or tensor.shape[0] % total:
            raise ValueError(f"{total} heads do not divide {tensor.shape}")
        d = tensor.shape[0] // total
        parts = np.split(tensor, np.cumsum(self.heads)[:-1] * d)
        return tuple(_split_heads(part, number) for part, number in zip(parts, self.heads))

    def to_theirs(self, *parts):
        joined = np.concatenate([_joined_heads(part) for part in parts])
        return (joined.T if self.transposed else joined,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split(Place):
    """One tensor [out in] of several linear layers, one after another: `sizes` of `out`; [in out_i] each, biases [out_i]."""

    sizes: tuple[int, ...]

    def to_ours(self, tensor):
        if tensor.ndim < 1 or tensor.shape[0] != sum(self.sizes):
            raise ValueError(f"expected {sum(self.sizes)} rows, found {tensor.shape}")
        return tuple(part.T for part in np.split(tensor, np.cumsum(self.sizes)[:-1]))

    def to_theirs(self, *arrays):
        return (np.concatenate([array.T for array in arrays]),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows(Place):
    """A table with a row for each token: row r of ours is row ids[r] of the file's, zeros where that is None.

    `ids` come from Settings.token_rows, since our tokenizers begin with PAD, BOS, EOS, UNK. `copies` are (row, id) of
    rows that the file has no token for and that begin like another one. The way back leaves them out, but for one that
    is like PAD (T5's first token), whose own row nobody reads: that is what the file gets there. `transposed`: ours is
    [width rows], a linear layer's kernel.
    """

    ids: tuple[int | None, ...]
    copies: tuple[tuple[int, int], ...] = ()
    transposed: bool = False

    def to_ours(self, tensor):
        number = sum(i is not None for i in self.ids)
        if tensor.ndim < 1 or tensor.shape[0] != number:
            raise ValueError(f"expected {number} rows, found {tensor.shape}")
        like = dict(self.copies)
        there = [like.get(row, 0) if i is None else i for row, i in enumerate(self.ids)]
        rows = tensor[there]
        rows[[row for row, i in enumerate(self.ids) if i is None and row not in like]] = 0
        return (rows.T if self.transposed else rows,)

    def to_theirs(self, array):
        array = array.T if self.transposed else array
        here, there = self._pairs()
        rows = np.empty((len(there), *array.shape[1:]), array.dtype)
        rows[there] = array[here]
        for row, i in self.copies:
            if i == self.ids[PAD]:
                rows[i] = array[row]
        return (rows,)

    def _pairs(self) -> tuple[list[int], list[int]]:
        here = [row for row, i in enumerate(self.ids) if i is not None]
        return here, [self.ids[row] for row in here]


class TokenRows(NamedTuple):
    """Which token of the file each row of ours is, as Rows has it."""

    ids: tuple[int | None, ...]
    copies: tuple[tuple[int, int], ...] = ()

    @property
    def unscored(self) -> tuple[int, ...]:
        """The rows that the file has no token for: none of them is ever written."""
        return tuple(row for row, i in enumerate(self.ids) if i is None)

    @property
    def fields(self) -> dict[str, Any]:
        return self._asdict()

    def with_roles(self, roles: Mapping[int, int]) -> "TokenRows":
        """The same with other tokens in some rows, {BOS: id}: they change places with what stood there."""
        ids = list(self.ids)
        for row, i in roles.items():
            if i not in ids:
                raise ValueError(f"expected one of the table's {len(ids)} tokens, found id {i}")
            other = ids.index(i)
            ids[row], ids[other] = ids[other], ids[row]
        return self._replace(ids=tuple(ids))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tied(Place):
    """A tensor that the file may repeat, or leave out: it has to equal `to`, and we keep it once."""

    ours: tuple[str, ...] = ()
    to: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unused(Place):
    """A tensor that some files have and we need not: counters, the numbers 0, 1, 2 ... of positions, poolers."""

    ours: tuple[str, ...] = ()


def below(places: Iterable[Place], ours: str = "", theirs: str = "") -> tuple[Place, ...]:
    """The places with `ours` ('block_0/') and `theirs` ('encoder.layer.0.') before every name."""

    def moved(place):
        changes = {"theirs": tuple(theirs + name for name in place.theirs)}
        changes["ours"] = tuple(_below(ours, name) for name in place.ours)
        if isinstance(place, Tied):
            changes["to"] = theirs + place.to
        return dataclasses.replace(place, **changes)

    return tuple(moved(place) for place in places)


def linear(ours: str, theirs: str, *, bias: bool = True) -> Iterator[Place]:
    """A Dense layer: weight and bias."""
    yield Linear(ours=f"{ours}/kernel", theirs=f"{theirs}.weight")
    if bias:
        yield Same(ours=f"{ours}/bias", theirs=f"{theirs}.bias")


def fused(
    ours: str,
    weight: str,
    bias: str,
    num_heads: int,
    *,
    parts: tuple[str, ...] = ("query", "key", "value"),
    transposed: bool = False,
) -> Iterator[Place]:
    """Some of query, key and value of MultiHeadAttention, one after another in one tensor, and their biases in another;
    `transposed` is the weight's, as FusedHeads has it."""
    heads = (num_heads,) * len(parts)
    kernels = tuple(f"{ours}/{part}/kernel" for part in parts)
    yield FusedHeads(ours=kernels, theirs=weight, heads=heads, transposed=transposed)
    yield FusedHeads(ours=tuple(f"{ours}/{part}/bias" for part in parts), theirs=bias, heads=heads)


def convolution(ours: str, theirs: str, *, bias: bool = True) -> Iterator[Place]:
    yield Convolution(ours=f"{ours}/kernel", theirs=f"{theirs}.weight")
    if bias:
        yield Same(ours=f"{ours}/bias", theirs=f"{theirs}.bias")


def norm(ours: str, theirs: str, *, bias: bool = True) -> Iterator[Place]:
    """LayerNorm, or RMSNorm without the bias."""
    yield Same(ours=f"{ours}/scale", theirs=f"{theirs}.weight")
    if bias:
        yield Same(ours=f"{ours}/bias", theirs=f"{theirs}.bias")


def batch_norm(ours: str, theirs: str) -> Iterator[Place]:
    """Scale, bias and the running statistics; PyTorch's counter of batches is left."""
    yield from norm(ours, theirs)
    yield Same(ours=f"batch_stats:{ours}/mean", theirs=f"{theirs}.running_mean")
    yield Same(ours=f"batch_stats:{ours}/var", theirs=f"{theirs}.running_var")
    yield Unused(theirs=f"{theirs}.num_batches_tracked")


def attention(
    ours: str,
    theirs: str,
    num_heads: int,
    num_kv_heads: int | None = None,
    *,
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "out_proj"),
    bias: bool = True,
    out_bias: bool | None = None,
) -> Iterator[Place]:
    """MultiHeadAttention of four linear layers; `names` are the file's for query, key, value and output."""
    heads = (num_heads, num_kv_heads or num_heads, num_kv_heads or num_heads)
    for part, name, number in zip(("query", "key", "value"), names, heads):
        where = {"ours": f"{ours}/{part}/kernel", "theirs": f"{theirs}.{name}.weight"}
        yield Heads(**where, num_heads=number)
        if bias:
            where = {"ours": f"{ours}/{part}/bias", "theirs": f"{theirs}.{name}.bias"}
            yield Heads(**where, num_heads=number)
    where = {"ours": f"{ours}/output/kernel", "theirs": f"{theirs}.{names[3]}.weight"}
    yield HeadsOut(**where, num_heads=num_heads)
    if bias if out_bias is None else out_bias:
        yield Same(ours=f"{ours}/output/bias", theirs=f"{theirs}.{names[3]}.bias")


def _below(prefix: str, name: str) -> str:
    collection, colon, rest = name.rpartition(":")
    return f"{collection}{colon}{prefix}{rest}"


def _split_heads(tensor: np.ndarray, num_heads: int) -> np.ndarray:
    """[heads*d in] -> [in heads d]; [heads*d] -> [heads d]."""
    if tensor.ndim < 1 or tensor.shape[0] % num_heads:
        raise ValueError(f"{num_heads} heads do not divide {tensor.shape}")
    split = tensor.reshape(num_heads, -1, *tensor.shape[1:])
    return split.transpose(2, 0, 1) if split.ndim == 3 else split


def _joined_heads(array: np.ndarray) -> np.ndarray:
    array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    return array.reshape(-1, *array.shape[2:])


def _check_rank(tensor: np.ndarray, rank: int) -> None:
    if tensor.ndim != rank:
        raise ValueError(f"expected {rank} axes, found {tensor.shape}")
