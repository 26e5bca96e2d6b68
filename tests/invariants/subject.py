"""A model under test: its variables, a batch, and each of its functions compiled once."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.decoding.toys import compiled
from vlm_jax import config
from vlm_jax.decoding.beam_search import BeamSearch
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.language.embeddings import Embedding
from vlm_jax.tasks.generation import Generation
from vlm_jax.train.state import path_name
from vlm_jax.train.steps import rng_keys
from vlm_jax.types import BOS, EOS, NUM_SPECIAL, PAD, Features

B, L = 4, 7
LENGTHS = (7, 5, 6, 3)  # BOS and EOS counted
MAX_LENGTH = 6
BEAM = BeamSearch(max_length=MAX_LENGTH, width=3, length_penalty=0.7, num_results=2)


def key(seed: int) -> jax.Array:
    """A key whose numbers compile in half the time of the default's."""
    return jax.random.key(seed, impl="unsafe_rbg")


def with_dropout(model: Any, rate: float) -> Any:
    """The model with every dropout rate set, and nothing else changed."""

    def change(node):
        rates = [f.name for f in config.fields(node) if f.name.endswith("dropout_rate")]
        return node.clone(**dict.fromkeys(rates, rate)) if rates else node

    return config.transform(model, change)


class Subject:
    """`inputs` are the keys of the batch beside target, valid and id: {"image": [b h w c]}, {"text": [b n]} or {}.

    `draws`: in evaluation the model takes an argmax, through which there is no gradient.
    """

    def __init__(self, model: Any, inputs: dict[str, np.ndarray], *, draws: bool = False):
        self.model = with_dropout(model, 0.3)
        self.draws = draws
        self.sources = tuple(inputs)
        self.vocab_size = model.decoder.vocab_size
        assert self.vocab_size >= NUM_SPECIAL + sum(LENGTHS) - 2 * B, "words should be distinct"
        # Among the words are those that a decoder can only copy.
        num_rows = self.vocab_size + getattr(model.decoder, "num_slots", 0)
        words = iter(np.random.default_rng(0).permutation(np.arange(NUM_SPECIAL, num_rows)))
        target = np.full((B, L), PAD, np.int32)
        for row, length in enumerate(LENGTHS):
            target[row, :length] = [BOS, *(next(words) for _ in range(length - 2)), EOS]
        self.batch = {
            **inputs,
            "target": target,
            "valid": np.ones(B, bool),
            "id": np.arange(B, dtype=np.int32),
        }
        self.inputs = target[:, :-1]
        self.labels = target[:, 1:]
        self.mask = self.labels != PAD
        self.task = Generation(tokenizer=None, decoding=Greedy(max_length=MAX_LENGTH))

    @functools.cached_property
    def variables(self):
        """Numbers of the initial shapes and of a size at which a leak of any kind shows: nothing near 0,
        no bias 0, no scale 1."""
        shapes = jax.eval_shape(
            lambda: self.model.init(jax.random.key(0), self._read(), train=False)
        )
        rng = np.random.default_rng(1)

        def filled(path, leaf):
            values = 0.3 * rng.normal(size=leaf.shape)
            name = path_name(path).split("/")[-1]
            if name in ("scale", "var"):
                values = np.exp(values)
            return values.astype(leaf.dtype)

        return jax.tree_util.tree_map_with_path(filled, dict(shapes))

    def _read(self, **changes):
        """The batch as the model is given it: the last token of the target is never read."""
        return {**self.batch, "target": self.inputs, **changes}

    def with_others_beside(self, kept: np.ndarray) -> dict[str, np.ndarray]:
        """The batch's inputs and targets with the numbers of all but the rows `kept` [b] shuffled."""
        rng = np.random.default_rng(3)
        changed = {}
        for name, value in self.batch.items():
            if name not in ("id", "valid"):
                shuffled = rng.permutation(value.ravel()).reshape(value.shape)
                changed[name] = np.where(kept.reshape(B, *[1] * (value.ndim - 1)), value, shuffled)
        return changed

    # ---- compiled once each

    def forward(self, variables=None, **changes) -> np.ndarray:
        """Logits [b l-1 v] in evaluation."""
        return np.asarray(self._forward(variables or self.variables, self._read(**changes)))

    @functools.cached_property
    def _forward(self):
        return compiled(lambda variables, batch: self.model.apply(variables, batch, train=False))

    def loss(self, variables=None, seed=0, **changes):
        """(objective, Mean of the reported loss, gradients) in evaluation."""
        (objective, mean), gradients = self._loss(
            variables or self.variables, {**self.batch, **changes}, key(seed)
        )
        return float(objective), mean, jax.device_get(gradients)

    @functools.cached_property
    def _loss(self):
        return compiled(self._gradient_of(train=False))

    def training_gradients(self, seed):
        _, gradients = self._train_loss(self.variables, self.batch, key(seed))
        return jax.device_get(gradients)

    @functools.cached_property
    def _train_loss(self):
        return compiled(self._gradient_of(train=True))

    def _gradient_of(self, train):
        def objective(params, variables, batch, key):
            rngs = rng_keys(key)
            loss, aux = self.task.loss(
                self.model, {**variables, "params": params}, batch, rngs=rngs, train=train
            )
            return loss, aux.metrics["loss"]

        value_and_grad = jax.value_and_grad(objective, has_aux=True)
        return lambda variables, batch, key: value_and_grad(
            variables["params"], variables, batch, key
        )

    def memory(self) -> Features:
        """What the decoder reads of the batch's pictures."""
        return self._memory(self.variables, self.batch)

    @functools.cached_property
    def _memory(self):
        return compiled(
            lambda variables, batch: self.model.apply(
                variables, batch, train=False, method="encode"
            )
        )

    def stepped(self, memory: Features) -> np.ndarray:
        """Logits [b l-1 v] over a memory, one step at a time."""
        return np.asarray(self._stepped(self.variables, memory))

    @functools.cached_property
    def _stepped(self):
        def run(variables, memory):
            cache, step = self._decoder(variables, memory, L - 1)

            def body(cache, token):
                logits, cache = step(token, cache, memory)
                return cache, logits

            _, logits = jax.lax.scan(body, cache, jnp.asarray(self.inputs.T))
            return jnp.swapaxes(logits, 0, 1)

        return compiled(run)

    def over(self, memory: Features) -> np.ndarray:
        """Logits [b l-1 v] over a memory, all at once."""
        return np.asarray(self._over(self.variables, memory))

    @functools.cached_property
    def _over(self):
        def decode(model, memory):
            return model.decoder(jnp.asarray(self.inputs), memory, train=False)

        return compiled(
            lambda variables, memory: self.model.apply(variables, memory, method=decode)
        )

    def _decoder(self, variables, memory, max_length):
        cache = self.model.apply(variables, memory, B, max_length, method="initial_cache")

        def step(token, cache, memory):
            return self.model.apply(variables, token, cache, memory, method="step")

        return cache, step

    def decode(self, strategy, **changes):
        return jax.device_get(self._decode(strategy, self.variables, {**self.batch, **changes}))

    @functools.cached_property
    def _decode(self):
        def run(strategy, variables, batch):
            memory = self.model.apply(variables, batch, train=False, method="encode")
            cache, step = self._decoder(variables, memory, strategy.max_length)
            return strategy(step, cache, memory, batch_size=B, key=jax.random.key(0))

        return compiled(run, static_argnums=0)

    def score(self, tokens) -> tuple[np.ndarray, np.ndarray]:
        """Sum of log p [b] of Int[b MAX_LENGTH], and their lengths, by one teacher-forced forward."""
        tokens = np.asarray(tokens)
        assert MAX_LENGTH == L - 1, "one compilation serves both"
        inputs = np.concatenate([np.full((B, 1), BOS), tokens[:, :-1]], axis=1).astype(np.int32)
        log_p = log_softmax(self.forward(target=inputs))
        log_p = np.take_along_axis(log_p, tokens[..., None], axis=-1)[..., 0]
        return np.where(tokens != PAD, log_p, 0).sum(1), (tokens != PAD).sum(1)

    def prefix_states(self, **changes) -> list[np.ndarray]:
        """Every hidden state [b n d] that a decoder with a prefix has at the n places of the prefix."""
        return jax.device_get(self._prefix_states(self.variables, self._read(**changes)))

    @functools.cached_property
    def _prefix_states(self):
        n = self.batch["image"].shape[1]

        def run(variables, batch):
            _, seen = self.model.apply(
                variables, batch, train=False, capture_intermediates=True, mutable="intermediates"
            )
            states = jax.tree.leaves(seen["intermediates"])
            return [x[:, :n] for x in states if x.ndim == 3 and x.shape[1] == n + L - 1]

        return compiled(run)

    @functools.cached_property
    def noisy(self):
        """A training forward: (logits, [(input, output) of each nn.Dropout])."""

        def run(variables, batch, key):
            seen = []

            def watch(next_fun, args, kwargs, context):
                out = next_fun(*args, **kwargs)
                if isinstance(context.module, nn.Dropout) and context.method_name == "__call__":
                    seen.append((args[0], out))
                return out

            rngs = rng_keys(key)
            mutable = [name for name in variables if name != "params"]
            with nn.intercept_methods(watch):
                logits, _ = self.model.apply(
                    variables, batch, train=True, rngs=rngs, mutable=[*mutable, "losses", "policy"]
                )
            kept = [pair for pair in seen if not _escaped(pair)]
            return logits, kept

        return compiled(run)

    @functools.cached_property
    def embedding_derivatives(self):
        """d (logits [:, i], mixed) / d (the vector of the word read at j) of one mixture of the logits: [i b j]."""

        def run(variables, batch):
            def at(moved):  # Float[b l-1]
                def move(next_fun, args, kwargs, context):
                    out = next_fun(*args, **kwargs)
                    if isinstance(context.module, Embedding) and context.method_name == "__call__":
                        if "text" in batch and out.shape[:2] == batch["text"].shape:
                            return out  # the words that are read
                        assert out.shape[:2] == moved.shape, "all words are looked up at once"
                        out += moved[..., None] * jnp.sin(1.0 + jnp.arange(out.shape[-1]))
                    return out

                with nn.intercept_methods(move):
                    return self.model.apply(variables, batch, train=False)

            logits, pull = jax.vjp(at, jnp.zeros((B, L - 1)))
            mixture = jnp.cos(1.0 + jnp.arange(logits.shape[-1]))

            def of(i):
                return pull(jnp.zeros_like(logits).at[:, i].set(mixture))[0]

            return jax.lax.map(of, jnp.arange(L - 1))

        return compiled(run)


def log_softmax(x):
    x = np.asarray(x, np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _escaped(pair):
    """Whether the values belong to an inner trace (the body of a scan), where they cannot be looked at."""
    try:
        jax.tree.map(lambda x: x + 0, pair)
    except jax.errors.UnexpectedTracerError:
        return True
    return False
