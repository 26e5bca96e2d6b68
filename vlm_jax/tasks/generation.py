"""Writing tokens: the loss, the search and the score that captioning, translation and language modelling share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.decoding.base import Decoded, Strategy
from vlm_jax.decoding.guidance import Both, guided
from vlm_jax.decoding.prompt import after_prompt
from vlm_jax.metrics.base import Mean, Metric, stats_of
from vlm_jax.tasks.base import Aux, Measured, softmax_cross_entropy
from vlm_jax.types import BOS, CARRY, EOS, PAD, Array, Batch, Features, References, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation(Measured):
    """Minimises the cross-entropy of batch["target"] [b l] = BOS, words, EOS, PAD ..., in nats per token.

    The divisor is the number of supervised tokens: every word and one EOS a row, never PAD, never BOS; of a target with a
    prompt before it (data/prompted.py) the answer and EOS. `predict` writes on from batch["prompt"], where there is one.
    A model may add to what is minimised by sowing a value a row [b] in the collection "losses"; those rows are
    summed and divided by the same number of tokens, which keeps the paper's ratio between the two
    (Xu et al. 2015, eq. 14, sums both over a sentence) and splits exactly over micro-batches and devices.
    A batch may have the `weight` [b l-1] of each label's cross-entropy; the divisor stays the number of tokens.
    "loss" in the metrics is the plain cross-entropy, without smoothing, weights and what was sown.
    """

    tokenizer: Any
    decoding: Any
    metrics: tuple[Metric, ...] = ()
    label_smoothing: float = 0.0

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        inputs, labels, mask = shift(batch)
        # What goes on from batch to batch does so in evaluation too, and begins where the variables have none of it.
        state = {CARRY, *(name for name in variables if train and name != "params")}
        logits, updated = model.apply(
            variables,
            {**batch, "target": inputs, **_cut(batch)},
            train=train,
            rngs=rngs,
            mutable=[*state, "losses", "policy"],
        )
        nll = softmax_cross_entropy(logits, labels)
        if train and self.label_smoothing:
            minimised = softmax_cross_entropy(logits, labels, self.label_smoothing)
        else:
            minimised = nll
        if "weight" in batch:
            minimised = minimised * batch["weight"]
        count = jnp.maximum(mask.sum(), 1).astype(jnp.float32)
        objective = jnp.where(mask, minimised, 0.0).sum() / count
        for sown in jax.tree.leaves(updated.pop("losses", {})):
            objective += jnp.where(batch["valid"], sown, 0.0).sum() / count
        objective += self.policy_loss(updated.pop("policy", {}), nll, mask) / count
        # Only the label scores as much as it does. A third of the time that an argmax over a vocabulary takes.
        chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)
        correct = (logits >= chosen).sum(-1) == 1
        metrics = {
            "loss": Mean.of(nll, mask),
            "token_accuracy": Mean.of(correct.astype(jnp.float32), mask),
        }
        return objective, Aux(metrics, updated)

    def policy_loss(self, sown: Variables, nll: Array, mask: Array) -> Array:
        """What models that sample while training add (summed, not yet divided); nothing by default."""
        return jnp.zeros((), jnp.float32)

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Any:
        """`Decoded`, best first."""
        memory = model.apply(variables, batch, train=False, method="encode")
        size = batch["valid"].shape[0]
        return write(
            model,
            variables,
            memory,
            self.decoding,
            batch_size=size,
            key=key,
            prompt=batch.get("prompt"),
        )

    def texts(self, predictions: Any, batch: Batch) -> list[str]:
        """The best text of each row; the space that tokens of bytes have before their first word is none of it."""
        rows = np.asarray(predictions.tokens)[:, 0].tolist()
        return [self.tokenizer.decode(row).strip() for row in rows]

    def examples(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        log_probs = np.asarray(predictions.log_probs)[:, 0]
        texts = self.texts(predictions, batch)
        rows = zip(np.asarray(batch["id"]), np.asarray(batch["valid"]), texts)
        return [
            {"id": int(i), "prediction": text, "log_prob": float(log_probs[row])}
            for row, (i, valid, text) in enumerate(rows)
            if valid
        ]

    def score(self, predictions: Any, batch: Batch, references: References) -> dict[str, Any]:
        def against_gold(example):
            gold = references[example["id"]]
            return lambda metric: stats_of(metric, example["prediction"], gold)

        return self.added(against_gold(example) for example in self.examples(predictions, batch))

    def check(self, model: Any, batch: Batch) -> None:
        target, ids = np.asarray(batch["target"]), np.asarray(batch["id"])
        vocab_size = model.decoder.vocab_size
        if self.tokenizer.vocab_size != vocab_size:
            raise ValueError(
                f"the tokenizer declares vocab_size {self.tokenizer.vocab_size}, the decoder {vocab_size}; "
                "give both the same number"
            )
        if "prompt" in batch and not hasattr(model.decoder, "extend"):
            raise ValueError(
                f"the batch has a prompt, which {type(model.decoder).__name__} cannot read in one piece (it has no "
                "`extend`); try a TransformerDecoder, or read it with a text_encoder, as batch['text']"
            )
        check_length(model, self.decoding, batch)
        num_slots = getattr(model.decoder, "num_slots", 0)  # of a decoder that copies unknown words
        outside = np.argwhere((target < 0) | (target >= vocab_size + num_slots))
        if len(outside):
            row, column = outside[0]
            of = "vocab_size and num_slots" if num_slots else "vocab_size"
            raise ValueError(
                f"example id {ids[row]}: target[{column}] is {target[row, column]}, expected 0 <= token < "
                f"{vocab_size + num_slots} (the decoder's {of})"
            )
        texts = np.asarray(batch["segment"]).max(1) + 1 if "segment" in batch else 1
        untaught = np.asarray(batch["valid"]) & ~np.asarray(shift(batch)[2]).any(1)
        if untaught.any():
            raise ValueError(f"example id {ids[untaught][0]}: none of its tokens is predicted")
        ends = target == EOS
        if "predicted" in batch:  # a prompt may have that token too
            ends = ends[:, 1:] & np.asarray(batch["predicted"])
        unfinished = np.asarray(batch["valid"]) & ~(ends.sum(1) == texts)
        if unfinished.any():
            raise ValueError(
                f"example id {ids[unfinished][0]}: its target has not exactly one EOS a text that is predicted; tokenize with "
                "vlm_jax.data.text_transforms.Tokenize"
            )


def check_length(model: Any, strategy: Strategy | None, batch: Batch) -> None:
    """Refuses to write more than the decoder has learned positions for. The last token that is written is not read."""
    form = getattr(model.decoder, "form", None)
    places = getattr(model.decoder, "max_length", None)
    if strategy is None or places is None or not getattr(form, "add_places", True):
        return
    prompt = batch["prompt"].shape[1] if "prompt" in batch else 1  # BOS
    read = prompt + strategy.max_length - 1
    if read > places:
        after = f" after a prompt of {prompt} tokens" if "prompt" in batch else ""
        raise ValueError(
            f"{type(strategy).__name__}(max_length={strategy.max_length}){after} reads {read} tokens, expected no more "
            f"than the decoder's max_length of {places}, its learned positions; try a smaller max_length of the search"
        )


def write(
    model: Any,
    variables: Variables,
    memory: Features | None,
    strategy: Strategy,
    *,
    batch_size: int,
    key: jax.Array | None = None,
    empty: Features | None = None,
    guidance: float = 1.0,
    prompt: Array | None = None,
) -> Decoded:
    """What the strategy writes for a memory, one cached step after another, without dropout.

    With `guidance` other than 1, away from what the model would write for the memory `empty` (decoding/guidance.py). A
    `prompt` [b p], padded on the left, is read in one piece, and what is written follows it, without it."""
    length = strategy.max_length + (0 if prompt is None else prompt.shape[1])

    def start(memory: Features | None):
        return model.apply(variables, memory, batch_size, length, method="initial_cache")

    def step(token: Array, cache: Any, memory: Features | None):
        return model.apply(variables, token, cache, memory, method="step")

    if prompt is not None:
        if guidance != 1.0:
            raise ValueError(f"write(prompt=..., guidance={guidance}): leave one of them out")
        logits, cache = model.apply(variables, prompt, start(memory), memory, method="extend")
        if getattr(model.decoder, "image_token", None) is not None and memory is not None:
            kept = model.decoder.keeps_places(prompt, memory)  # as where the whole text is read
            logits = jnp.where(kept[:, None, None], logits, jnp.nan)
        step, cache = after_prompt(step, logits[:, -1], cache)
        return strategy(step, cache, memory, batch_size=batch_size, key=key)
    if guidance == 1.0:
        return strategy(step, start(memory), memory, batch_size=batch_size, key=key)
    cache, memory = Both(given=start(memory), empty=start(empty)), Both(given=memory, empty=empty)
    step = guided(step, guidance)
    return strategy(step, cache, memory, batch_size=batch_size, key=key)


def read_for(tokens: Array, prompt: Array | None = None) -> Array:
    """What is read to write `tokens` [b l], after BOS or the prompt [b p]: [[a, EOS, PAD]] -> [[BOS, a, EOS]]. What the last l
    places give is of the tokens."""
    first = jnp.full_like(tokens[:, :1], BOS) if prompt is None else prompt
    return jnp.concatenate([first, tokens[:, :-1]], axis=1)


def shift(batch: Batch) -> tuple[Array, Array, Array]:
    """Inputs, labels and mask [b l-1]: the token at position t is read to predict the token at t + 1.

    `[[BOS, a, b, EOS, PAD]] -> [[BOS, a, b, EOS]], [[a, b, EOS, PAD]], [[1, 1, 1, 0]]`

    A batch may say which labels are `predicted` [b l-1]; the others are only read. In a row of several texts the first
    token of each is predicted from none before it.
    """
    target = batch["target"]
    labels = target[:, 1:]
    mask = (labels != PAD) & batch["valid"][:, None]
    if "predicted" in batch:
        mask &= batch["predicted"]
    if "segment" in batch:
        mask &= batch["segment"][:, 1:] == batch["segment"][:, :-1]
    return target[:, :-1], labels, mask


def _cut(batch: Batch) -> dict[str, Array]:
    """The segments of the inputs of `shift`."""
    return {"segment": batch["segment"][:, :-1]} if "segment" in batch else {}
