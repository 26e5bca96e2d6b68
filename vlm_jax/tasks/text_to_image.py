"""Text to picture by codes: one after another, or the surest first."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.decoding import guidance
from vlm_jax.decoding.base import Decoded, halves, keys_of_samples, tile
from vlm_jax.decoding.masked import MASK, least, masked_share
from vlm_jax.metrics.base import Mean
from vlm_jax.tasks.base import Aux, softmax_cross_entropy
from vlm_jax.tasks.generation import Generation
from vlm_jax.tasks.painting import Painted, Painting, no_prompt, stage_of
from vlm_jax.types import BOS, EOS, NUM_SPECIAL, Array, Batch, Features, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextToImage(Painting):
    """Minimises the cross-entropy of batch["target"] [b n+2] = BOS, the codes of a picture row by row, EOS, given
    batch["text"]; nats per code (and EOS). Of a model that is a `PictureGenerator`.

    `tokenizer` is that of the prompts. `decoding` writes n + 1 tokens `num_samples` times, of which the last, EOS, is not
    painted; `guidance` is that of guidance.py: 1 for none.

    With a `plan` of m tokens (text.scene_plan.ScenePlan) what stands where is written before the codes: batch["target"]
    [b m+n+2], made by CodesToTarget of the same plan; `decoding` writes m + n + 1 tokens in the `stages` of `stages_of`, and the
    loss is a mean over both, not to be compared with that of codes alone. In training the code of a cell that no object of the
    plan reaches counts `background_weight` (what is painted there is noise to a prompt, and most of a picture).
    """

    tokenizer: Any
    decoding: Any
    guidance: float = 1.0
    background_weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        guidance.check(self.guidance, self.prompt_dropout)
        if "num_results" not in {field.name for field in dataclasses.fields(self.decoding)}:
            raise ValueError(
                f"{type(self).__name__}(decoding={self.decoding}): expected a decoding that writes num_samples pictures a "
                "prompt, by its field num_results; try Sampling(temperature=0) in the place of Greedy"
            )
        if self.plan is None and self.background_weight != 1.0:
            raise ValueError(
                f"given background_weight {self.background_weight} without a plan; leave it out, or try plan=ScenePlan()"
            )
        if not 0.0 < self.background_weight <= 1.0:
            raise ValueError(
                f"background_weight is {self.background_weight}, expected 0 < background_weight <= 1"
            )

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        batch = self._prompted(batch, rngs, train)
        if self.background_weight != 1.0:
            weight = self._weight(model.image_tokenizer, batch["target"])
            batch = {**batch, "weight": weight}
        writing = Generation(tokenizer=None, decoding=self.decoding)
        return writing.loss(model, variables, batch, rngs=rngs, train=train)

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Painted:
        memory = self.condition(model, variables, batch)
        empty = None
        if self.guidance != 1.0:
            nothing = {**batch, "text": no_prompt(batch["text"])}
            empty = model.apply(variables, nothing, train=False, method="encode")
        written = self.write(model, variables, memory, empty, key)
        first = self.num_planned
        tokens = written.tokens[..., first : first + model.image_tokenizer.num_places]  # [b s n]
        images = model.apply(variables, tokens.reshape(-1, tokens.shape[-1]), method="paint")
        images = self.shown(images.reshape(*tokens.shape[:2], *images.shape[1:]))
        plans = None
        if self.plan is not None:
            plans = written.tokens[..., :first] - _beyond(model.image_tokenizer.quantiser.num_codes)
        return self.best(Painted(images=images, plans=plans), batch)

    def write(
        self, model: Any, variables: Variables, memory: Features, empty: Features | None, key: Any
    ) -> Decoded:
        """The tokens of `num_made` pictures for each row of the memory [b s l]."""
        guided = {"empty": empty, "guidance": self.guidance}
        return self.one_by_one(self.decoding, model, variables, memory, key, **guided)

    def picture_shape(self, model: Any, batch: Batch) -> jax.ShapeDtypeStruct:
        def paint(batch):
            variables = model.init(jax.random.key(0), batch, train=False)
            codes = batch["target"][:, 1 + self.num_planned : -1]
            return model.apply(variables, codes, method="paint")

        return jax.eval_shape(paint, {name: batch[name] for name in ("text", "target", "valid")})

    def check(self, model: Any, batch: Batch) -> None:
        super().check(model, batch)
        tokenizer, decoder = model.image_tokenizer, model.decoder
        places, codes = tokenizer.num_places, tokenizer.quantiser.num_codes
        planned = 0 if self.plan is None else self.plan.vocab_size
        if decoder.vocab_size != codes + NUM_SPECIAL + planned:
            raise ValueError(
                f"the decoder has vocab_size {decoder.vocab_size}, expected {codes + NUM_SPECIAL + planned}: the {codes} "
                f"codes of the image tokenizer, {NUM_SPECIAL} that are none and {planned} of a plan"
            )
        if model.text_encoder.vocab_size != self.tokenizer.vocab_size:
            raise ValueError(
                f"the tokenizer of prompts has vocab_size {self.tokenizer.vocab_size}, the text encoder "
                f"{model.text_encoder.vocab_size}; give both the same number"
            )
        self._check_length(places)
        self._check_stages(places, codes)
        target = np.asarray(batch["target"])[np.asarray(batch["valid"])]
        ids = np.asarray(batch["id"])[np.asarray(batch["valid"])]
        before, inner = np.split(target[:, 1:-1], [self.num_planned], axis=1)
        beyond = _beyond(codes)
        wrong = (target[:, 0] != BOS) | (target[:, -1] != EOS)
        wrong |= (inner < NUM_SPECIAL).any(1) | (inner >= beyond).any(1)
        wrong |= (before < beyond).any(1) | (before >= decoder.vocab_size).any(1)
        if target.shape[1] != self.num_planned + places + 2 or wrong.any():
            planned = (
                f"{self.num_planned} tokens of a plan from {beyond} on, "
                if self.plan is not None
                else ""
            )
            row = int(wrong.argmax())
            raise ValueError(
                f"example id {ids[row]}: its target begins with {target[row, :3].tolist()} and is {target.shape[1]} long; "
                f"expected BOS, {planned}{places} codes from {NUM_SPECIAL} to {beyond - 1}, EOS: make it with data.codes.CodesToTarget"
            )

    def _weight(self, image_tokenizer: Any, target: Array) -> Array:
        """Float[b m+n+1] of each label."""
        codes = image_tokenizer.quantiser.num_codes
        numbers = target[:, 1 : 1 + self.num_planned] - _beyond(codes)
        reached = self.plan.reached(numbers, image_tokenizer.grid)
        if image_tokenizer.by_columns:
            reached = reached.swapaxes(1, 2)
        weight = jnp.where(reached, 1.0, self.background_weight).reshape(len(target), -1)
        return jnp.pad(weight, ((0, 0), (self.num_planned, 1)), constant_values=1.0)

    def _check_stages(self, places: int, codes: int) -> None:
        given, expected = getattr(self.decoding, "stages", ()), stages_of(self.plan, places, codes)
        if given != expected:
            raise ValueError(
                f"decoding has stages {given}, expected {expected}: {self.num_planned} tokens of a plan, then {places} codes"
            )

    def _check_length(self, places: int) -> None:
        given = (self.decoding.max_length, self.decoding.min_length)
        expected = self.num_planned + places + 1
        if given != (expected, expected):
            raise ValueError(
                f"decoding has max_length {given[0]} and min_length {given[1]}, expected {expected} of both: "
                f"{self.num_planned} tokens of a plan, a code for each of {places} places of the picture, and EOS"
            )

    def _prompted(self, batch: Batch, rngs: dict, train: bool) -> Batch:
        if not (train and self.prompt_dropout):
            return batch
        return self.with_dropped_prompts(batch, rngs["noise"])


def _beyond(codes: int) -> int:
    """The first token of a plan that stands before so many different codes."""
    return codes + NUM_SPECIAL


def stages_of(plan: Any, places: int, codes: int) -> tuple[tuple[int, int, int], ...]:
    """`Sampling.stages` of a plan and then so many places with one of so many codes each; () without a plan."""
    if plan is None:
        return ()
    beyond = _beyond(codes)
    return stage_of(plan, beyond), (places, NUM_SPECIAL, beyond - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedTextToImage(TextToImage):
    """Minimises the cross-entropy of the codes that are masked, given those that are not and batch["text"]; nats per
    masked code. Chang et al. 2022 (MaskGIT, arXiv 2202.04200), section 3.1.

    Of n codes ceil(n cos(pi r / 2)) are masked, for r uniform in [0, 1), a row each; the decoder reads in both directions
    (causal=False) and never sees what it is to predict. The masks of an evaluation are drawn from the id of the row, so
    that every evaluation has the same.

    With a `plan` of m tokens `planning` writes it, one token after another, and `decoding` then the codes, all of which see
    the whole plan: a decoder with num_causal = m + 1, BOS and the plan. The loss is a mean over the plan and the masked codes,
    and `background_weight` that of TextToImage.
    """

    planning: Any = None

    def __post_init__(self):
        super().__post_init__()
        self.check_planning(self.planning)

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        batch = self._prompted(batch, rngs, train)
        masked = self.masked(batch, rngs.get("sampling") if train else None)
        labels, planned = batch["target"][:, 1:-1], self.num_planned
        filled_in = jnp.where(masked, MASK, labels[:, planned:])
        before = batch["target"][:, : 1 + planned] if planned else labels[:, :0]
        read = jnp.concatenate([before, filled_in], axis=1)
        state = [name for name in variables if train and name != "params"]
        logits, updated = model.apply(
            variables, {**batch, "target": read}, train=train, rngs=rngs, mutable=state
        )
        if planned:
            # Tokens of a plan are told where the one before them stands, codes in their own place.
            logits = jnp.delete(logits, planned, axis=1)
        nll = softmax_cross_entropy(logits, labels)
        counted = jnp.pad(masked, ((0, 0), (planned, 0)), constant_values=True)
        counted &= batch["valid"][:, None]
        correct = (logits.argmax(-1) == labels).astype(jnp.float32)
        metrics = {"loss": Mean.of(nll, counted), "token_accuracy": Mean.of(correct, counted)}
        if self.background_weight != 1.0:
            nll = nll * self._weight(model.image_tokenizer, batch["target"])[:, :-1]
        count = jnp.maximum(counted.sum(), 1).astype(jnp.float32)
        return jnp.where(counted, nll, 0.0).sum() / count, Aux(metrics, updated)

    def masked(self, batch: Batch, key: jax.Array | None) -> Array:
        """Bool[b n]: which codes are masked."""
        rows, places = batch["target"].shape
        places -= self.num_planned + 2
        if key is None:
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), batch["id"])
        else:
            keys = jax.random.split(key, rows)

        def of_row(key):
            share_key, place_key = jax.random.split(key)
            share = masked_share(jax.random.uniform(share_key))
            number = jnp.ceil(share * places)
            return least(jax.random.uniform(place_key, (places,)), number)

        return jax.vmap(of_row)(keys)

    def write(self, model, variables, memory, empty, key) -> Decoded:
        if self.plan is not None:
            return self._write_planned(model, variables, memory, empty, key)

        def read(tokens, memory):
            return model.apply(variables, tokens, memory, train=False, method="read")

        decoding = dataclasses.replace(self.decoding, num_results=self.num_made)
        return self._fill_in(read, decoding, memory, empty, memory.mask.shape[0], key)

    def _write_planned(self, model, variables, memory, empty, key) -> Decoded:
        planning_key, key = halves(key)
        rows, samples = memory.mask.shape[0], self.num_made
        guided = {"empty": empty, "guidance": self.guidance}
        planned = self.one_by_one(self.planning, model, variables, memory, planning_key, **guided)
        plans = planned.tokens.reshape(rows * samples, -1)
        before = jnp.concatenate([jnp.full_like(plans[:, :1], BOS), plans], axis=1)
        length = before.shape[1] + self.decoding.max_length
        beyond = _beyond(model.image_tokenizer.quantiser.num_codes)

        def behind_plans(memory):
            """What all readings share: the memory, and what the decoder keeps of the plans."""
            cache = model.apply(variables, memory, rows, length, method="initial_cache")
            memory, cache = tile((memory, cache), samples, rows)
            _, cache = model.apply(variables, before, cache, memory, method="extend")
            return memory, cache

        def read(tokens, behind):
            memory, cache = behind
            logits, _ = model.apply(variables, tokens, cache, memory, method="extend")
            return logits[..., :beyond]  # no token of a plan

        empty = None if empty is None else behind_plans(empty)
        keys = keys_of_samples(key, rows, samples)
        codes = self._fill_in(read, self.decoding, behind_plans(memory), empty, len(plans), keys)
        shape = (rows, samples)
        log_probs = planned.log_probs + codes.log_probs.reshape(shape)
        return Decoded(
            tokens=jnp.concatenate([planned.tokens, codes.tokens.reshape(*shape, -1)], axis=-1),
            scores=log_probs,
            log_probs=log_probs,
            lengths=planned.lengths + codes.lengths.reshape(shape),
        )

    def _fill_in(self, read, strategy, memory, empty, rows, key) -> Decoded:
        if self.guidance == 1.0:
            return strategy(read, memory, batch_size=rows, key=key)

        def read_both(tokens, memory):
            given, without = read(tokens, memory.given), read(tokens, memory.empty)
            return guidance.guide(given, without, self.guidance)

        both = guidance.Both(given=memory, empty=empty)
        return strategy(read_both, both, batch_size=rows, key=key)

    def check(self, model: Any, batch: Batch) -> None:
        super().check(model, batch)
        decoder = model.decoder
        expected = 0 if self.plan is None else 1 + self.num_planned
        given = (getattr(decoder, "causal", True), getattr(decoder, "num_causal", 0))
        if given != (False, expected):
            raise ValueError(
                f"the decoder has causal={given[0]} and num_causal={given[1]}, expected causal=False and "
                f"num_causal={expected}: codes are read in both directions"
                + (", behind BOS and the plan" if expected else "")
            )

    def _check_stages(self, places: int, codes: int) -> None:
        if self.planning is not None:
            self.check_written(self.planning, _beyond(codes))

    def _check_length(self, places: int) -> None:
        if self.decoding.max_length != places:
            raise ValueError(
                f"decoding has max_length {self.decoding.max_length}, expected {places}: a code for each place"
            )
