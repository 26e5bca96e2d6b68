"""What a summary's rows are read as, how much of them was copied, and that eight e-mails can be learnt."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pointer_generator import smoke
from tests.decoding.toys import compiled
from tests.model_zoo import filled
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.language.convolution import ConvolutionEncoder
from vlm_jax.language.copying import CopyableText, CopyingTransformer
from vlm_jax.models.generator import Generator
from vlm_jax.tasks.summarisation import Summaries, Summarisation
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


def test_the_shares_after_a_prompt_are_those_of_what_was_written():
    """After a prompt of BOS alone the same is written, and copied, as without one."""
    sizes = {"vocab_size": 12, "width": 8, "num_layers": 1, "num_heads": 1, "hidden": 8}
    encoder = ConvolutionEncoder(vocab_size=12, embedding_width=8, windows=(1,), filters=8)
    model = Generator(
        text_encoder=CopyableText(encoder=encoder, vocab_size=12),
        decoder=CopyingTransformer(**sizes, num_slots=2),
    )
    batch = {
        "text": np.array([[5, 6, 12, 7, EOS]]),
        "target": np.array([[BOS, 5, EOS]]),
        "valid": np.ones(1, bool),
    }
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))
    task = Summarisation(tokenizer=None, decoding=Greedy(max_length=3))

    @compiled
    def both(variables):
        prompts = ({}, {"prompt": np.array([[PAD, PAD, BOS]])})
        return [task.predict(model, variables, {**batch, **each}, None) for each in prompts]

    plain, prompted = jax.device_get(both(filled(shapes)))
    np.testing.assert_array_equal(prompted.tokens, plain.tokens)
    np.testing.assert_allclose(prompted.copied, plain.copied, rtol=1e-4)
    assert plain.copied.max() > 0.01


def test_e_mails_are_learnt_and_their_subjects_written_back():
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
