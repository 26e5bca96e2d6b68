import numpy as np
import pytest

from vlm_jax import config
from vlm_jax.data.packing import Packed, PackTexts, first_fit
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import Rows
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.tasks.generation import shift
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.types import BOS, EOS, PAD

LINES = ("a b c", "d e f", "g", "h i", "", "j")
SOURCE = Rows(names=("text",), rows=tuple((line,) for line in LINES))
WORDS = WordTokenizer(corpus=SOURCE, vocab_size=16, texts="text", spaces=True)
A, B, C, D, E, F, G, H, I, J = (WORDS.encode(word)[0] for word in "abcdefghij")
TOKENIZE = Tokenize(tokenizer=WORDS, max_length=5, key="text")
PACKED = Packed(source=SOURCE, tokenize=TOKENIZE, length=9)


def test_rows_by_hand():
    # Of 5, 5, 3, 4, 2 and 3 tokens.
    assert PACKED.rows == ((0, 2), (1, 3), (4, 5))
    row = PACKED[0]
    assert row["target"].tolist() == [BOS, A, B, C, EOS, BOS, G, EOS, PAD]
    assert row["segment"].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, -1]
    assert PACKED[2]["target"].tolist() == [BOS, EOS, BOS, J, EOS, PAD, PAD, PAD, PAD]
    with pytest.raises(IndexError):
        PACKED[3]


@pytest.mark.parametrize("seed", range(4))
def test_first_fit_is_what_trying_every_row_finds(seed):
    rng = np.random.default_rng(seed)
    length = int(rng.integers(4, 40))
    sizes = rng.integers(1, length + 1, 300).tolist()
    rows, room = [], []
    for number, size in enumerate(sizes):
        row = next((i for i, left in enumerate(room) if left >= size), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(length)
        rows[row].append(number)
        room[row] -= size
    assert first_fit(sizes, length) == tuple(map(tuple, rows))
    assert first_fit([], length) == ()


def test_every_token_of_every_text_is_predicted_once_and_none_across_a_border():
    batch = next(Pipeline(source=PACKED, batch_size=3, train=False).batches())[1]
    _, labels, mask = map(np.asarray, shift(batch))
    ids = [WORDS.encode(line) for line in LINES]
    wanted = [[t for i in row for t in (*ids[i], EOS)] for row in PACKED.rows]
    assert [row[kept].tolist() for row, kept in zip(labels, mask)] == wanted
    assert not (mask & (labels == BOS)).any()


def test_an_epoch_is_every_row_once_whatever_the_position_it_is_read_from():
    pipeline = Pipeline(source=PACKED, batch_size=1, train=True, seed=4)
    stream = [batch for (_, batch), _ in zip(pipeline.batches(), range(6))]
    assert sorted(int(b["id"][0]) for b in stream[:3]) == [0, 1, 2]
    again = next(pipeline.batches(4))[1]
    np.testing.assert_array_equal(again["target"], stream[4]["target"])


def test_what_is_not_predicted_stays_so():
    def prompted(example, rng=None):
        row = TOKENIZE(example)
        return {**row, "predicted": np.array([False, True, True, True])}

    row = Packed(source=SOURCE, tokenize=prompted, length=9)[0]
    assert row["predicted"].tolist() == [False, True, True, True, False, False, True, False]


def test_the_texts_of_a_picture_share_a_row():
    pack = PackTexts(tokenize=Tokenize(tokenizer=WORDS, max_length=5), length=9)
    example = {"id": 3, "captions": ("a b c", "d", "e f")}  # of 5, 3 and 4 tokens
    seen = set()
    for seed in range(20):
        row = pack(example, np.random.default_rng(seed))
        assert row["target"].shape == row["segment"].shape == (9,)
        starts = np.flatnonzero(row["target"] == BOS)
        assert row["segment"].max() + 1 == len(starts) == 2
        seen |= {int(row["target"][start + 1]) for start in starts}
    assert seen == {A, D, E}
    with pytest.raises(ValueError, match="length=4.*at least the max_length 5"):
        PackTexts(tokenize=Tokenize(tokenizer=WORDS, max_length=5), length=4)
    with pytest.raises(ValueError, match="expected at least one text in a tuple"):
        pack({"id": 3, "captions": ()}, np.random.default_rng(0))


def test_a_text_longer_than_a_row_is_refused_by_its_id():
    with pytest.raises(ValueError, match=r"Packed\(length=4\): example id 0 has 5 tokens"):
        len(Packed(source=SOURCE, tokenize=TOKENIZE, length=4))


def test_it_is_plain_data():
    again = config.from_json(config.to_json(PACKED))
    assert again == PACKED and hash(again) == hash(PACKED)
