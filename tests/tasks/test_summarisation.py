"""What a summary's rows are read as, how much of them was copied, and that eight e-mails can be learnt."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pointer_generator import smoke
from vlm_jax.tasks.summarisation import Summaries
from vlm_jax.train.loop import train
from vlm_jax.train.optimizers import Adam, Constant
from vlm_jax.types import BOS, EOS, PAD

EXPERIMENT = smoke()
TASK, TOKENIZER = EXPERIMENT.task, EXPERIMENT.task.tokenizer


def batch_of():
    return next(EXPERIMENT.evaluations[0].data.batches())[1]


def written(rows, copied=None):
    tokens = np.array(rows)[:, None]
    zeros = np.zeros(tokens.shape[:2])
    return Summaries(tokens=tokens, scores=zeros, log_probs=zeros, copied=copied)


def test_rows_beyond_the_vocabulary_are_words_of_their_own_text():
    batch = batch_of()
    spelling = np.zeros_like(batch["spelling"])
    spelling[0, 1, :6] = list(b"krista")
    spelling[1, 1, :4] = list("zoë".encode())
    (known,) = TOKENIZER.encode("agreement")
    rows = [[65, known, EOS, PAD], [known, 65, EOS, PAD], [64, 65, 66, 3]]
    found = TASK.texts(written(rows), {**batch, "spelling": spelling})
    assert found == ["krista agreement", "agreement zoë", "   "]


def test_examples_have_a_share_for_every_word():
    batch = batch_of()
    copied = np.array([[0.25, 1.0, 0.5, 0.0]] * 3)
    examples = TASK.examples(written([[5, 6, EOS, PAD]] * 3, copied), batch)
    assert [len(example["words"]) for example in examples] == [2, 2, 2]
    assert examples[0]["copied"] == [0.25, 1.0]
    assert "copied" not in TASK.examples(written([[5, EOS]] * 3), batch)[0]


def test_rows_outside_the_extended_vocabulary_are_refused():
    batch = dict(batch_of())
    TASK.check(EXPERIMENT.model, batch)
    batch["target"] = np.where(np.arange(6) == 1, 64 + 3, batch["target"])
    with pytest.raises(ValueError, match=r"target\[1\] is 67, expected 0 <= token < 67"):
        TASK.check(EXPERIMENT.model, batch)


def test_e_mails_are_learnt_and_their_subjects_written_back(compiled_as_it_stands):
    """The three of the smoke test; then what the shares say is what copying added to the probability."""
    model = EXPERIMENT.model.clone(
        decoder=EXPERIMENT.model.decoder.clone(embedding_dropout_rate=0.0, output_dropout_rate=0.0)
    )
    learning = dataclasses.replace(
        EXPERIMENT,
        num_steps=150,
        optimizer=Adam(learning_rate=Constant(value=0.02), clip_norm=2.0),
        task=dataclasses.replace(TASK, label_smoothing=0.0),
        model=model,
        evaluations=(),
        log_every=150,
    )
    learnt = train(learning).variables
    batch = jax.tree.map(jnp.asarray, batch_of())
    absent = jnp.full_like(batch["text"], 66)  # a row that no subject has

    @jax.jit
    def run(batch):
        found = TASK.predict(model, learnt, batch, jax.random.key(0))
        best = found.tokens[:, 0]
        inputs = jnp.concatenate([jnp.full((3, 1), BOS), best[:, :-1]], axis=1)
        memory = model.apply(learnt, batch, train=False, method="encode")

        def log_probs(tokens):
            def decode(model):
                return model.decoder(inputs, memory.replace(tokens=tokens), train=False)

            logits = model.apply(learnt, method=decode)
            return jnp.take_along_axis(logits, best[..., None], axis=-1)[..., 0]

        return found, log_probs(batch["text"]), log_probs(absent)

    found, whole, generated = jax.device_get(run(batch))
    numbers = TASK.report(
        TASK.score(found, batch, EXPERIMENT.evaluations[0].data.source.references)
    )
    assert numbers["rouge_1"] == numbers["rouge_2"] == 100
    assert TASK.texts(found, batch) == ["netting agreement", "meeting with ubs", "expense report"]
    real = found.tokens[:, 0] != PAD
    added = 1 - np.exp(generated - whole)
    np.testing.assert_allclose(found.copied[real], added[real], atol=1e-3)
    assert (found.copied[~real] == 0).all() and found.copied.max() > 0.5
