"""A recurrent decoder that looks at one place of its memory, or some, before each word.

Xu et al. 2015, "Show, Attend and Tell" (arXiv 1502.03044); equations are theirs. With soft attention, no gate and
a GRU it is the decoder of Bahdanau, Cho and Bengio 2015 (arXiv 1409.0473).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vlm_jax.language.embeddings import Embedding, Vocabulary
from vlm_jax.language.feedback import Reading, read_with_own_tokens
from vlm_jax.layers.attention import masked_softmax
from vlm_jax.layers.pooling import pool
from vlm_jax.layers.recurrent import LSTM, Cell, CellState, gatewise, hold, unroll
from vlm_jax.types import EOS, PAD, Cache, Features


class Attend(Protocol):
    """How probabilities over places become weights. `noise` is what `draw` gave, None outside training."""

    def __call__(self, probabilities: Float[Array, "b n"], noise: Any) -> Float[Array, "b n"]: ...

    def draw(self, key: Array, shape: tuple[int, int, int]) -> Any:
        """Random numbers for all times [l b n], where weights are drawn in training; else None."""

    is_sampled: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftAttention:
    """The expected place: weights = probabilities (section 4.2)."""

    is_sampled = False

    def draw(self, key, shape):
        return None

    def __call__(self, probabilities, noise):
        return probabilities


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardAttention:
    """One place, drawn in training (section 4.1), the most probable otherwise; the rng is "sampling".

    With probability `expected_rate` a row looks at the expected place instead, as in soft attention, which
    lowers the variance (end of section 4.1). What REINFORCE needs is sown in the collection "policy", each
    [b l]: "log_prob", log p of the drawn place (zero in rows with the expected place), and "entropy", of the
    probabilities (eq. 12 and the text after it). The reward and its moving average are the task's.
    """

    expected_rate: float = 0.5
    is_sampled = True

    def draw(self, key, shape):
        key, coin = jax.random.split(key)
        expected = jax.random.bernoulli(coin, self.expected_rate, (1, shape[1], 1))
        gumbel = jax.random.gumbel(key, shape)
        return {"gumbel": gumbel, "expected": jnp.broadcast_to(expected, (shape[0], shape[1], 1))}

    def __call__(self, probabilities, noise):
        # A row without any place has only zeros, and stays so.
        possible = probabilities > 0
        scores = jnp.where(possible, jnp.log(jnp.where(possible, probabilities, 1)), -jnp.inf)
        if noise is not None:
            scores = scores + noise["gumbel"]
        place = jax.nn.one_hot(scores.argmax(-1), scores.shape[-1], dtype=probabilities.dtype)
        place = jnp.where(possible, place, 0)
        return place if noise is None else jnp.where(noise["expected"], probabilities, place)


class AttentionDecoder(nn.Module, kw_only=True):
    """Writes text, looking at its memory before each token.

        a_t = weights(v . tanh(W a + U h_{t-1}))      eq. 4-6    one weight a place
        z_t = beta_t * sum_i a_ti a_i                 4.2.1      beta_t = sigmoid(w . h_{t-1}), where `gated`
        h_t = cell(E y_{t-1}, h_{t-1}, z_t)           eq. 1-3
        logits = L_o (E y_{t-1} + L_h h_t + L_z z_t)  eq. 7      where `deep_output`; else of h_t alone

    So with the order of Xu et al., who look before they read y_{t-1}. With `look_last` the cell reads y_{t-1} beside
    what was seen before, and h_t looks (See, Liu and Manning 2017, arXiv 1704.04368, eq. 1-4):

        h_t = cell(E y_{t-1}, h_{t-1}, z_{t-1})       z_0 = 0
        a_t = weights(v . tanh(W a + U h_t))

    With `coverage_weight` w the weights also know where they have been, and looking there again costs (their eq.
    10-13):

        c_t = sum_{s<t} a_s        v . tanh(W a + U h + w_c c_t)        w sum_t sum_i min(a_ti, c_ti), sown in "losses"

    h_0 (and c_0) are tanh layers of the mean over the memory. `output_activation` stands before L_o: None in
    the paper, tanh in the authors' code. Padding in the memory has weight 0, exactly. The probabilities are
    sown as "attention" [b l n] in "intermediates" (for hard attention: the places looked at).

    `doubly_stochastic_weight` times sum_i (1 - sum_t a_ti)^2 (eq. 14), over the words and EOS that are to be
    written, is sown for each row in "losses"; the task adds it to what it minimises.
    For `sampling_rate` see RecurrentDecoder.
    """

    cell: Cell = LSTM()
    vocab_size: int
    width: int
    embedding_width: int
    attention_width: int
    attend: Attend = SoftAttention()
    gated: bool = True
    deep_output: bool = True
    output_activation: Callable | None = None
    doubly_stochastic_weight: float = 0.0
    look_last: bool = False
    coverage_weight: float | None = None  # None: no coverage; 0: known to the attention, at no cost
    embedding_dropout_rate: float = 0.0
    rnn_dropout_rate: float = 0.0
    output_dropout_rate: float = 0.0
    sampling_rate: float = 0.0
    tied: bool = False
    dtype: Any = jnp.float32

    def setup(self):
        expected_rate = getattr(self.attend, "expected_rate", 0.0)
        if self.sampling_rate and 0.0 < expected_rate < 1.0:
            raise ValueError(
                f"AttentionDecoder(sampling_rate={self.sampling_rate}, attend={self.attend}): read word by word, a row would "
                "look at the expected place for some words and not for others; try expected_rate=0.0 or 1.0"
            )

        def dense(width):
            return nn.Dense(width, dtype=self.dtype)

        self.embedding = Embedding(
            vocab_size=self.vocab_size, width=self.embedding_width, dtype=self.dtype
        )
        self.initial = [dense(self.width) for _ in range(self.cell.num_states)]
        self.keys = dense(self.attention_width)
        self.rnn = AttentionLayer(
            cell=self.cell,
            width=self.width,
            attention_width=self.attention_width,
            attend=self.attend,
            gated=self.gated,
            look_last=self.look_last,
            coverage=self.coverage_weight is not None,
            dtype=self.dtype,
        )
        if self.deep_output:
            self.from_state = dense(self.embedding_width)
            self.from_memory = nn.Dense(self.embedding_width, use_bias=False, dtype=self.dtype)
        self.vocabulary = Vocabulary(vocab_size=self.vocab_size, dtype=self.dtype)
        self.embedding_dropout = nn.Dropout(self.embedding_dropout_rate)
        self.rnn_dropout = nn.Dropout(self.rnn_dropout_rate)
        self.output_dropout = nn.Dropout(self.output_dropout_rate)

    def __call__(
        self, tokens: Int[Array, "b l"], memory: Features | None, *, train: bool
    ) -> Float[Array, "b l v"]:
        """Logits of the token after each of `tokens`."""
        cache = self.initial_cache(memory, tokens.shape[0], tokens.shape[1])
        if train and self.sampling_rate and not self.is_initializing():
            reading = read_with_own_tokens(self, tokens, cache, memory, self.sampling_rate)
        else:
            reading = self.read(tokens, cache, memory, train=train)
        if not self.is_initializing():
            self._sow(reading.looks, (tokens != PAD) & (tokens != EOS), memory.mask, train)
        return reading.logits

    def initial_cache(self, memory: Features | None, batch_size: int, max_length: int) -> Cache:
        """{"state": the loop's, "keys": W a of all places}; there is no limit to the length."""
        if memory is None:
            raise ValueError(
                f"{type(self).__name__} was given no memory; give the Generator an encoder, or try "
                "RecurrentDecoder for a language model"
            )
        mean = pool(memory)
        state = self.rnn.initial_state(
            tuple(jnp.tanh(layer(mean)) for layer in self.initial), memory
        )
        return {"state": state, "keys": self.keys(memory.values)}

    def step(
        self, token: Int[Array, "b"], cache: Cache, memory: Features | None
    ) -> tuple[Float[Array, "b v"], Cache]:
        reading = self.read(token[:, None], cache, memory, train=False)
        return reading.logits[:, 0], reading.cache

    def read(
        self, tokens: Int[Array, "b l"], cache: Cache, memory: Features, *, train: bool
    ) -> Reading:
        """Reads l tokens on from the cache. `__call__` and `step` are both this."""
        words = self.embedding_dropout(self.embedding(tokens), deterministic=not train)
        noise = None
        if train and self.attend.is_sampled and not self.is_initializing():
            shape = (tokens.shape[1], *memory.values.shape[:2])
            noise = self.attend.draw(self.make_rng("sampling"), shape)
        looks, state = self.rnn(words, memory, cache["keys"], tokens != PAD, noise, cache["state"])
        logits = self.logits(words, looks, cache, train=train)
        looks = {name: look for name, look in looks.items() if name not in ("output", "seen")}
        return Reading(logits=logits, cache={**cache, "state": state}, looks=looks)

    def logits(
        self, words: Float[Array, "b l e"], looks: dict[str, Array], cache: Cache, *, train: bool
    ) -> Float[Array, "b l v"]:
        """Of what was read, and of what AttentionLayer gave for it."""
        x = self.rnn_dropout(looks["output"], deterministic=not train)
        if self.deep_output:
            x = words + self.from_state(x) + self.from_memory(looks["seen"])
        if self.output_activation is not None:
            x = self.output_activation(x)
        x = self.output_dropout(x, deterministic=not train)
        return self.vocabulary(x, self.embedding if self.tied else None)

    def _sow(self, looks, mask, memory_mask, train):
        weights, probabilities = looks["weights"], looks["probabilities"]
        self.sow("intermediates", "attention", weights)
        if self.doubly_stochastic_weight:
            total = jnp.where(mask[..., None], probabilities, 0).sum(axis=1)  # [b n]
            missing = jnp.where(memory_mask, jnp.square(1 - total), 0).sum(axis=-1)
            self.sow("losses", "doubly_stochastic", self.doubly_stochastic_weight * missing)
        if self.coverage_weight:
            again = jnp.where(mask, looks["again"], 0).sum(axis=1)
            self.sow("losses", "coverage", self.coverage_weight * again)
        if train and self.attend.is_sampled:
            log_p = jnp.log(jnp.where(probabilities > 0, probabilities, 1))
            drawn = (weights == 1).astype(log_p.dtype)
            self.sow("policy", "log_prob", (drawn * log_p).sum(-1))
            self.sow("policy", "entropy", -(probabilities * log_p).sum(-1))


class AttentionLayer(nn.Module, kw_only=True):
    """The loop over time of AttentionDecoder; what does not depend on the state is computed before it."""

    cell: Cell
    width: int
    attention_width: int
    attend: Attend
    gated: bool
    look_last: bool = False
    coverage: bool = False
    dtype: Any = jnp.float32

    def initial_state(self, cell_state: CellState, memory: Features) -> dict[str, Any]:
        """{"cell"} and, where they are asked for, what was "seen" z [b d] and the "coverage" c [b n], both 0."""
        state: dict[str, Any] = {"cell": cell_state}
        if self.look_last:
            state["seen"] = jnp.zeros_like(memory.values[:, 0], dtype=self.dtype)
        if self.coverage:
            state["coverage"] = jnp.zeros(memory.mask.shape, jnp.float32)
        return state

    @nn.compact
    def __call__(
        self,
        words: Float[Array, "b l e"],
        memory: Features,
        keys: Float[Array, "b n k"],
        mask: Bool[Array, "b l"],
        noise: Any,
        state: dict[str, Any],
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """{"output" [b l h], "seen" z [b l d], "weights", "probabilities" [b l n]}, and the last state.

        With coverage also "again" [b l]: how much of the look fell where others had, 0 to 1.
        """
        cell, width, gates = self.cell, self.width, self.cell.num_gates
        glorot = nn.initializers.glorot_uniform()

        def kernel(name, size, init=glorot, number=1, out=width):
            return self.param(name, gatewise(init, number), (size, out)).astype(self.dtype)

        kernels = [
            kernel("memory_kernel", memory.values.shape[-1], number=gates),
            kernel("query_kernel", width, out=self.attention_width),
        ]
        context = {
            "keys": keys,
            "values": memory.values.astype(self.dtype),
            "score": kernel("score", self.attention_width, out=1)[:, 0],
        }
        if self.gated:
            kernels.append(kernel("gate_kernel", width, out=1))
            context["gate_bias"] = self.param("gate_bias", nn.initializers.zeros, (1,)).astype(
                self.dtype
            )
        if self.coverage:
            context["coverage"] = kernel("coverage_kernel", 1, out=self.attention_width)[0]
        orthogonal = nn.initializers.orthogonal()
        first_recurrent = len(kernels)
        for j, number in enumerate(cell.kernel_gates):
            kernels.append(kernel(f"recurrent_kernel_{j}", width, orthogonal, number))
        bias = self.param("bias", lambda key: cell.bias(width)).astype(self.dtype)
        words = jnp.swapaxes(words.astype(self.dtype), 0, 1)
        inputs = words @ kernel("kernel", words.shape[-1], number=gates) + bias[None, None]
        kept, state = unroll(
            (_StepAndLook if self.look_last else _LookAndStep)(
                cell, self.attend, self.gated, first_recurrent
            ),
            False,
            (inputs, jnp.swapaxes(mask, 0, 1), noise),
            tuple(kernels),
            state,
            context,
            memory.mask,
        )
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), kept), state


@dataclasses.dataclass(frozen=True)
class _Step:
    cell: Cell
    attend: Attend
    gated: bool
    first_recurrent: int

    def look(self, query, noise, state, dot, context, memory_mask):
        """What `query` [b h] sees, and what follows for the state."""
        hidden = context["keys"] + dot(1, query)[:, None]  # [b n k]
        if "coverage" in state:
            covered = state["coverage"].astype(hidden.dtype)
            hidden = hidden + covered[..., None] * context["coverage"][None, None]
        scores = jnp.einsum("bnk,k->bn", jnp.tanh(hidden), context["score"])
        probabilities = masked_softmax(scores.astype(jnp.float32), memory_mask)
        weights = self.attend(probabilities, noise)
        seen = jnp.einsum("bn,bnd->bd", weights.astype(hidden.dtype), context["values"])
        if self.gated:
            seen = nn.sigmoid(dot(2, query) + context["gate_bias"][None]) * seen
        looks, after = {"seen": seen, "weights": weights, "probabilities": probabilities}, {}
        if "coverage" in state:
            looks["again"] = jnp.minimum(weights, state["coverage"]).sum(-1)
            after["coverage"] = state["coverage"] + weights
        return looks, after

    def step(self, inputs, seen, state, dot):
        return self.cell(
            inputs + dot(0, seen), state["cell"], lambda j, v: dot(self.first_recurrent + j, v)
        )


class _LookAndStep(_Step):
    def __call__(self, x, state, dot, context, memory_mask):
        inputs, keep, noise = x
        looks, after = self.look(state["cell"][0], noise, state, dot, context, memory_mask)
        after["cell"] = self.step(inputs, looks["seen"], state, dot)
        state = hold(after, state, keep)
        return state, {"output": state["cell"][0], **looks}


class _StepAndLook(_Step):
    def __call__(self, x, state, dot, context, memory_mask):
        inputs, keep, noise = x
        cell = self.step(inputs, state["seen"], state, dot)
        looks, after = self.look(cell[0], noise, state, dot, context, memory_mask)
        state = hold({"cell": cell, "seen": looks["seen"], **after}, state, keep)
        return state, {"output": state["cell"][0], **looks}
