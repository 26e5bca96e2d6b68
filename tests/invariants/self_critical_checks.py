"""What must hold of captions trained on their score: the reward by hand, and the gradient by enumeration.

The model is a table of logits, of the next token given picture and last token, so that every caption and its
probability can be written down. A batch says which captions are drawn, or leaves it to the table.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments import self_critical as experiment
from tests.decoding.toys import compiled, log_softmax
from vlm_jax.data.source import Rows, Tfds
from vlm_jax.decoding.sampling import Greedy, Sampling
from vlm_jax.metrics import cider_reward
from vlm_jax.metrics.base import total
from vlm_jax.metrics.cider import Cider
from vlm_jax.tasks import self_critical
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.types import BOS, EOS, PAD, UNK

V, L = 6, 2
BANNED = (PAD, BOS, UNK)
ALLOWED = (EOS, 4, 5)
CAPTIONS = [[EOS, PAD], [4, EOS], [5, EOS], *map(list, itertools.product((4, 5), (4, 5)))]
PAIRS = list(itertools.product(range(len(CAPTIONS)), repeat=2))
IDS = (3, 8)  # of the two pictures
MANY = 20_000
TEMPERATURE = 0.8


def pay(tokens, ids):
    """A reward that depends on every token, its place and the picture."""
    value = (tokens * np.array([31, 57])).sum(-1) + 17 * ids[:, None]
    return (value % 11).astype(np.float32)


class Table:
    """Logits table[picture, last token]; where a batch has captions, those are what is drawn. What searches without
    drawing has as many rows as the batch, and is told nothing."""

    def __init__(self, rows):
        self.rows = rows

    def apply(self, variables, *given, method, train=False, rngs=None):
        table = variables["params"]["table"]
        if method == "encode":
            return {name: given[0][name] for name in ("picture", "captions")}
        if method == "initial_cache":
            return {"place": jnp.zeros(given[1], jnp.int32)}
        if method == "read":
            assert not train, "something may drop out"
            return table[given[1]["picture"][:, None], given[0]]
        token, cache, memory = given
        logits = table[memory["picture"], token]
        rows, samples, _ = memory["captions"].shape
        if samples and rows != self.rows:
            each = jnp.arange(rows)
            told = memory["captions"][each, each % samples, cache["place"]]
            logits = jnp.where(jnp.arange(V) == told[:, None], 0.0, -1e9)
        return logits, {"place": cache["place"] + 1}


class Policy:
    """The task on the table, compiled once for each way to use it."""

    table = np.random.default_rng(0).normal(size=(2, V, V)).astype(np.float32)

    @functools.cache  # noqa: B019  an instance lives as long as its checks
    def _compiled(self, rows, samples, greedy):
        task = self_critical.SelfCritical(
            tokenizer=None,
            decoding=None,
            reward=pay,
            sampling=Sampling(
                max_length=L, temperature=TEMPERATURE, num_results=samples, banned=BANNED
            ),
            baseline=Greedy(max_length=L, banned=BANNED) if greedy else None,
        )

        def objective(table, batch, key):
            loss, aux = task.loss(
                Table(rows),
                {"params": {"table": table}},
                batch,
                rngs={"sampling": key, "dropout": key},
                train=True,
            )
            return loss * aux.metrics["loss"].count, aux.metrics

        return compiled(jax.value_and_grad(objective, has_aux=True))

    def __call__(self, pictures, captions=None, *, samples=2, greedy=False, valid=None, seed=0):
        """(metrics, gradient [2 v v] of what is minimised, not yet divided)."""
        pictures = np.asarray(pictures)
        rows = len(pictures)
        if captions is None:
            captions = np.zeros((rows, 0, L))
        batch = {
            "picture": pictures,
            "captions": np.asarray(captions, np.int32),
            "id": np.array(IDS, np.int32)[pictures],
            "valid": np.ones(rows, bool) if valid is None else np.asarray(valid),
        }
        run = self._compiled(rows, samples, greedy)
        (_, metrics), gradient = jax.device_get(run(self.table, batch, jax.random.key(seed)))
        return {name: (float(m.total), float(m.count)) for name, m in metrics.items()}, gradient

    def log_probs(self, picture):
        """[v v] of what may be written."""
        allowed = np.full(V, -np.inf)
        allowed[list(ALLOWED)] = 0
        return log_softmax(self.table[picture].astype(np.float64) / TEMPERATURE + allowed)

    def log_prob(self, picture, caption):
        last, found = BOS, 0.0
        for token in caption:
            if token == PAD:
                break
            found, last = found + self.log_probs(picture)[last, token], token
        return found

    def slope(self, picture, caption):
        """The gradient of log_prob, [v v]: one-hot minus probability over the temperature, for every word and EOS."""
        found, last = np.zeros((V, V)), BOS
        for token in caption:
            if token == PAD:
                break
            found[last] -= np.exp(self.log_probs(picture)[last])
            found[last, token] += 1
            last = token
        return found / TEMPERATURE

    def ascent(self, picture):
        """The gradient of the expected reward, [v v]."""
        return sum(
            np.exp(self.log_prob(picture, c)) * reward_of(picture, c) * self.slope(picture, c)
            for c in CAPTIONS
        )


def reward_of(picture, caption):
    return float(pay(np.array([[caption]]), np.array([IDS[picture]]))[0, 0])


# ---- the gradient


def check_the_expected_gradient_is_that_of_the_expected_reward(policy):
    """Over all pairs of captions, each as often as it is drawn; two pictures in one batch."""
    pictures = np.tile([0, 1], len(PAIRS))
    captions = [[CAPTIONS[i], CAPTIONS[j]] for i, j in PAIRS for _ in range(2)]
    for greedy in (False, True):
        expected = np.zeros((2, V, V))
        for row, picture in enumerate(pictures):
            only = np.arange(len(pictures)) == row
            _, gradient = policy(pictures, captions, greedy=greedy, valid=only)
            often = math.exp(sum(policy.log_prob(picture, c) for c in captions[row]))
            assert not gradient[1 - picture].any()
            expected += often * gradient
        for picture in (0, 1):
            np.testing.assert_allclose(
                -expected[picture] / 2, policy.ascent(picture), rtol=1e-3, atol=1e-4
            )


def check_what_the_model_draws_gives_that_gradient_too(policy):
    """By 20,000 captions of its own, within what chance allows."""
    metrics, gradient = policy([0, 1], samples=MANY)
    for picture in (0, 1):
        ascent = policy.ascent(picture)
        np.testing.assert_allclose(-gradient[picture] / MANY, ascent, atol=0.1)
        assert np.abs(ascent).max() > 0.5
    rewards = [
        sum(math.exp(policy.log_prob(p, c)) * reward_of(p, c) for c in CAPTIONS) for p in (0, 1)
    ]
    mean = metrics["reward"][0] / metrics["reward"][1]
    np.testing.assert_allclose(mean, np.mean(rewards), rtol=0.02)


def check_rows_add_and_the_divisor_is_the_tokens_drawn(policy):
    """Each picture is compared with itself alone, so a batch is the sum of its rows."""
    captions = [[CAPTIONS[0], CAPTIONS[1]], [CAPTIONS[4], CAPTIONS[2]], [CAPTIONS[3], CAPTIONS[0]]]
    pictures = [0, 1, 1]
    metrics, whole = policy(pictures, captions)
    assert metrics["loss"][1] == (1 + 2) + (2 + 2) + (2 + 1)
    nll = -sum(policy.log_prob(p, c) for p, pair in zip(pictures, captions) for c in pair)
    np.testing.assert_allclose(metrics["loss"][0], nll, rtol=1e-4)
    parts = [policy(pictures, captions, valid=np.arange(3) == row)[1] for row in range(3)]
    np.testing.assert_allclose(whole, sum(parts), rtol=1e-4, atol=1e-5)
    for row, (picture, pair) in enumerate(zip(pictures, captions)):
        first, second = (reward_of(picture, caption) for caption in pair)
        slopes = [policy.slope(picture, caption) for caption in pair]
        expected = -(first - second) * (slopes[0] - slopes[1])
        np.testing.assert_allclose(parts[row][picture], expected, rtol=1e-3, atol=1e-4)


def check_equal_captions_teach_nothing(policy):
    captions = [[caption, caption] for caption in CAPTIONS[:3]]
    assert not policy([0, 1, 1], captions)[1].any()


def check_nothing_after_the_end_counts(policy):
    """What the table says of a token after EOS or PAD has no gradient, nor has what is never written."""
    captions = [[CAPTIONS[0], CAPTIONS[1]], [CAPTIONS[2], CAPTIONS[0]], [CAPTIONS[1], CAPTIONS[4]]]
    gradient = policy([0, 1, 1], captions)[1]
    assert gradient.any() and not gradient[:, [PAD, EOS]].any()
    assert not gradient[:, :, list(BANNED)].any()


def check_the_baseline_is_what_the_greedy_caption_is_paid(policy):
    """Whatever the key, and with no gradient of its own."""
    captions = [[CAPTIONS[0], CAPTIONS[1]], [CAPTIONS[2], CAPTIONS[0]], [CAPTIONS[1], CAPTIONS[4]]]
    found = [policy([0, 1, 1], captions, greedy=True, seed=seed) for seed in (0, 1)]
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    best = []
    for picture in (0, 1, 1):
        caption, last = [], BOS
        while len(caption) < L and EOS not in caption:
            last = int(policy.log_probs(picture)[last].argmax())
            caption.append(last)
        best.append(reward_of(picture, caption + [PAD] * (L - len(caption))))
    total_reward, count = found[0][0]["baseline_reward"]
    np.testing.assert_allclose(total_reward / count, np.mean(best), rtol=1e-5)
    expected = np.zeros((2, V, V))
    for picture, pair, baseline in zip((0, 1, 1), captions, best):
        for caption in pair:
            advantage = reward_of(picture, caption) - baseline
            expected[picture] -= advantage * policy.slope(picture, caption)
    np.testing.assert_allclose(found[0][1], expected, rtol=1e-3, atol=1e-4)


def check_advantages_of_a_picture_sum_to_zero(policy):
    rewards = jnp.array([[1.0, 4.0, 4.0], [0.5, 0.5, 0.5], [9.0, 1.0, 2.0]])
    found = self_critical.leave_one_out(rewards)
    np.testing.assert_allclose(found[0], [-3, 1.5, 1.5], rtol=1e-6)
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-5)
    np.testing.assert_allclose(self_critical.leave_one_out(rewards + 7), found, atol=1e-5)


# ---- the reward

CORPUS = Rows(
    names=("captions",),
    rows=(
        (("A dog.",),),
        (("a cat runs", "a grey cat"),),
    ),
)
LARGER = Rows(
    names=("captions",),
    rows=(
        (("A dog runs through the snow .", "a black dog runs", "the dog's ball is red"),),
        (("two dogs play with a ball", "Two dogs in the grass"),),
        (("a man rides a bike", "a man on a bike in the street", "the man is riding"),),
        (("children play in the snow", "a child throws snow at a man"),),
        (("the ball is in the grass",),),
    ),
)
WRITTEN = [
    "a dog runs in the snow",
    "two dogs dogs dogs play with a",
    "a man rides a bike in the street",
    "",
    "the ball is in the grass",
]


def reward(corpus, **fields):
    tokenizer = WordTokenizer(corpus=corpus, vocab_size=64)
    return cider_reward.CiderReward(corpus=corpus, tokenizer=tokenizer, **fields)


def tokens_of(judge, texts, end=EOS):
    """Int[1 r l] of one picture's texts."""
    rows = [[*judge.tokenizer.encode(text), end] for text in texts]
    width = max(map(len, rows)) + 1
    return np.array([[row + [PAD] * (width - len(row)) for row in rows]])


def check_the_reward_by_hand(policy):
    """Two pictures: 'dog' is in one of them and weighs log 2, 'a' is in both and weighs nothing."""
    judge = reward(CORPUS, count_end=False)
    found = judge(tokens_of(judge, ["a dog", "dog", "a", "a dog dog"]), np.array([0]))[0]
    close = math.exp(-1 / 72)  # one bigram too few, or too many
    # Words (1, 2), bigrams (dog, dog) too: of a bigram of no picture the weight is log 2 as well.
    np.testing.assert_allclose(
        found, [5, 2.5 * close, 0, 2.5 * close * (1 / 2 + 1 / math.sqrt(2))], rtol=1e-5
    )


def check_where_a_text_ends_counts(policy):
    """The end weighs nothing as a word, and as the last part of an n-gram what that n-gram weighs."""
    judge = reward(CORPUS)
    ended = judge(tokens_of(judge, ["a dog", "dog"]), np.array([0]))[0]
    close, half = math.exp(-1 / 72), 1 / math.sqrt(2)
    np.testing.assert_allclose(ended, [7.5, 2.5 * close * (1 + half)], rtol=1e-5)
    cut = judge(tokens_of(judge, ["a dog"], end=PAD), np.array([0]))[0]
    np.testing.assert_allclose(cut, [2.5 * close * (1 + half)], rtol=1e-5)


def check_the_reward_is_the_metric_with_the_frequencies_of_the_corpus(policy):
    """Sentence by sentence, to the last digit of a float32, with words repeated and words of no reference."""
    judge, metric = reward(LARGER, count_end=False), Cider()
    references = [LARGER.references[i]["captions"] for i in range(len(LARGER))]
    stats = total(metric.stats(*pair) for pair in zip(WRITTEN, references))
    expected = np.array(metric.scores(stats)) / 100
    found = [judge(tokens_of(judge, [w]), np.array([i]))[0, 0] for i, w in enumerate(WRITTEN)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.ptp(expected) > 1


def check_a_reward_depends_on_its_text_and_picture_alone(policy):
    judge = reward(LARGER)
    tokens = np.repeat(tokens_of(judge, WRITTEN), len(LARGER), 0)
    ids = np.arange(len(LARGER))
    whole = judge(tokens, ids)
    order = np.array([3, 0, 4, 2, 1])
    np.testing.assert_array_equal(judge(tokens[order], ids[order]), whole[order])
    np.testing.assert_array_equal(judge(tokens[:, order], ids), whole[:, order])
    for row in ids:
        np.testing.assert_array_equal(
            judge(tokens[row : row + 1], ids[row : row + 1])[0], whole[row]
        )
    assert whole.argmax(1).tolist() == [0, 1, 2, 0, 4]


def check_the_experiment_pays_by_the_captions_of_its_training_pictures(policy):
    chosen = experiment.leave_one_out()
    source = chosen.train_data.source
    while hasattr(source, "source"):
        source = source.source
    assert chosen.task.reward.corpus == source == Tfds("flickr8k", "train")


CHECKS = (
    check_the_expected_gradient_is_that_of_the_expected_reward,
    check_what_the_model_draws_gives_that_gradient_too,
    check_rows_add_and_the_divisor_is_the_tokens_drawn,
    check_equal_captions_teach_nothing,
    check_nothing_after_the_end_counts,
    check_the_baseline_is_what_the_greedy_caption_is_paid,
    check_advantages_of_a_picture_sum_to_zero,
    check_the_reward_by_hand,
    check_where_a_text_ends_counts,
    check_the_reward_is_the_metric_with_the_frequencies_of_the_corpus,
    check_a_reward_depends_on_its_text_and_picture_alone,
    check_the_experiment_pays_by_the_captions_of_its_training_pictures,
)
