"""What must hold of a language model that reads one long text in windows. Each check takes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests import model_zoo
from tests.decoding.toys import compiled
from vlm_jax.data import streams
from vlm_jax.data.source import Rows
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.language.recurrent import RecurrentDecoder
from vlm_jax.models.generator import Generator
from vlm_jax.tasks import generation
from vlm_jax.tasks.language_modelling import LanguageModelling
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train import evaluation
from vlm_jax.types import BOS, CARRY, EOS, PAD

LINES = ("a b c d", "b é", "c d a b e", "e e a", "d c b a")
SOURCE = Rows(names=("text",), rows=tuple((line,) for line in LINES))
WORDS = WordTokenizer(corpus=SOURCE, vocab_size=12, texts="text", spaces=True)
TOKENS = [token for line in LINES for token in (*WORDS.encode(line), EOS)]
BYTES = sum(len(line.encode()) + 1 for line in LINES)
TASK = LanguageModelling(tokenizer=WORDS, decoding=Greedy(max_length=3))
MODEL = Generator(
    decoder=RecurrentDecoder(vocab_size=12, width=4, embedding_width=4, carry=True, tied=True)
)


def forget():
    """Lets go of what was compiled or laid out."""
    for cached in (evaluation._compiled, streams._tokens):
        getattr(cached, "cache_clear", lambda: None)()


def windows(**fields):
    fields = {"batch_size": 1, "length": 7, "train": False, **fields}
    return streams.Streams(source=SOURCE, tokenizer=WORDS, **fields)


@functools.cache
def variables():
    batch = {"target": jnp.ones((1, 7), int)}
    shapes = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), batch, train=False))
    return model_zoo.filled(shapes)


def nll() -> float:
    """Of the whole text in one forward without a carried state, in nats."""
    inputs = np.array([[BOS, *TOKENS[:-1]]])
    logits = compiled(lambda v, x: MODEL.apply(v, {"target": x}, train=False))(variables(), inputs)
    log_p = np.asarray(jax.nn.log_softmax(logits))[0]
    return float(-log_p[np.arange(len(TOKENS)), TOKENS].sum())


def numbers(**fields):
    over = evaluation.Evaluation(name="text", data=windows(**fields), predict=False)
    return evaluation.evaluate(over, MODEL, TASK, variables()).numbers


def predicted(**fields) -> list[int]:
    """The tokens that are predicted, row after row."""
    batches = [batch for _, batch in windows(**fields).batches()]
    shifted = [map(np.asarray, generation.shift(batch)[1:]) for batch in batches]
    parts = [(labels, mask) for labels, mask in shifted]
    rows = range(len(parts[0][0]))
    return [t for row in rows for x, mask in parts for t in x[row][mask[row]].tolist()]


def check_every_token_is_predicted_once():
    for fields in ({}, {"batch_size": 3}, {"context": 3}, {"batch_size": 2, "context": 20}):
        assert predicted(**fields) == TOKENS, fields


def check_a_context_is_read():
    for _, batch in list(windows(length=3, context=4).batches())[2:]:
        inputs, _, mask = (np.asarray(x) for x in generation.shift(batch))
        assert (inputs[0, : np.flatnonzero(mask[0])[0]] != PAD).all()


def check_windows_are_one_text():
    """The state after a window is the one before the next, in evaluation."""
    np.testing.assert_allclose(numbers()["loss"], nll() / len(TOKENS), rtol=1e-4)


def check_numbers_by_hand():
    """Perplexity is per token; bits are per byte of UTF-8, the ends of lines counted."""
    found, expected = numbers(length=len(TOKENS)), nll()
    assert found["tokens"] == len(TOKENS)
    np.testing.assert_allclose(found["perplexity"], np.exp(expected / len(TOKENS)), rtol=1e-4)
    np.testing.assert_allclose(found["bits_per_byte"], expected / np.log(2) / BYTES, rtol=1e-4)


def check_rows_begin_anew():
    """Whatever an epoch left, the next does not see it; within an epoch it is seen."""
    batches = [batch for _, batch in windows(batch_size=2).batches()]
    nothing = jax.tree.map(lambda x: jnp.zeros((2, 4)), variables()[CARRY])
    left = [{CARRY: nothing}, {CARRY: jax.tree.map(jnp.ones_like, nothing)}]

    def loss(carry, batch):
        given = {"params": variables()["params"], **carry}
        return TASK.loss(MODEL, given, batch, rngs={}, train=False)[0]

    run = compiled(loss)
    assert run(left[0], batches[0]) == run(left[1], batches[0])
    assert run(left[0], batches[1]) != run(left[1], batches[1])


def check_a_prompt_is_read_to_its_last_word():
    """What follows is the argmax of a forward over EOS and the whole prompt."""
    prompts = np.array([[BOS, 5, 6, 7, EOS], [BOS, 8, EOS, PAD, PAD]])
    predict = compiled(lambda v, p: TASK.predict(MODEL, v, {"prompt": p}, None).tokens)
    tokens = np.asarray(predict(variables(), prompts))[:, 0, 0]
    forward = compiled(lambda v, x: MODEL.apply(v, {"target": x}, train=False))
    for row, prompt in enumerate(([EOS, 5, 6, 7], [EOS, 8])):
        logits = np.array(forward(variables(), np.array([prompt + [PAD] * (4 - len(prompt))])))
        logits = logits[0, len(prompt) - 1]
        logits[[PAD, BOS]] = -np.inf
        assert logits.max() - logits[tokens[row]] < 1e-5


CHECKS = (
    check_every_token_is_predicted_once,
    check_a_context_is_read,
    check_windows_are_one_text,
    check_numbers_by_hand,
    check_rows_begin_anew,
    check_a_prompt_is_read_to_its_last_word,
)
