"""What a painter cannot be trained on, or with, is refused in words."""

import dataclasses
from types import SimpleNamespace as Part

import numpy as np
import pytest

from vlm_jax.decoding.masked import MaskedDecoding
from vlm_jax.decoding.sampling import Greedy, Sampling
from vlm_jax.tasks.text_to_image import MaskedTextToImage, TextToImage
from vlm_jax.types import BOS, EOS, PAD

WORDS = Part(vocab_size=8)
SAMPLING = Sampling(max_length=5, min_length=5)
TASK = TextToImage(tokenizer=WORDS, decoding=SAMPLING)


def model(**changes):
    parts = {
        "decoder": Part(vocab_size=13),
        "text_encoder": Part(vocab_size=8),
        "image_tokenizer": Part(num_places=4, quantiser=Part(num_codes=9)),
    }
    return Part(**{**parts, **changes})


def batch(target=(BOS, 4, 12, 5, 6, EOS), text=(BOS, 4, EOS, PAD)):
    return {
        "text": np.array([[BOS, EOS, PAD, PAD], text], np.int32),
        "target": np.array([[BOS, 4, 4, 4, 4, EOS], target], np.int32),
        "valid": np.ones(2, bool),
        "id": np.array([3, 17], np.int32),
    }


def test_what_fits_is_taken():
    TASK.check(model(), batch())


@pytest.mark.parametrize(
    "changes, given, words",
    [
        ({}, {"target": (BOS, 4, 13, 5, 6, EOS)}, "example id 17: its target .* from 4 to 12"),
        ({}, {"target": (BOS, 4, 3, 5, 6, EOS)}, "example id 17"),
        ({}, {"target": (4, 4, 4, 5, 6, 7)}, "expected BOS, 4 codes"),
        ({}, {"text": (BOS, 4, 5, 6)}, "example id 17: its prompt has not exactly one EOS"),
        ({"decoder": Part(vocab_size=12)}, {}, "vocab_size 12, expected 13"),
        ({"text_encoder": Part(vocab_size=9)}, {}, "vocab_size 8, the text encoder 9"),
    ],
)
def test_what_does_not_fit_is_named(changes, given, words):
    with pytest.raises(ValueError, match=words):
        TASK.check(model(**changes), batch(**given))


class Plan:
    length, vocab_size = 2, 3


def planned(**changes):
    decoding = Sampling(max_length=7, min_length=7, stages=((2, 13, 15), (4, 4, 12)))
    return dataclasses.replace(TASK, plan=Plan(), decoding=decoding, **changes)


def with_plan(*plan):
    given = batch()
    before = np.array([(BOS, 13, 15), (BOS, *plan)], np.int32)
    return {**given, "target": np.concatenate([before, given["target"][:, 1:]], axis=1)}


def test_a_plan_has_tokens_of_its_own():
    more = model(decoder=Part(vocab_size=16))
    planned().check(more, with_plan(14, 13))
    for plan in ((14, 12), (16, 13)):
        with pytest.raises(
            ValueError, match="id 17: .*expected BOS, 2 tokens of a plan from 13 on"
        ):
            planned().check(more, with_plan(*plan))
    with pytest.raises(ValueError, match="id 3: .*expected BOS, 2 tokens of a plan"):
        planned().check(more, batch())
    with pytest.raises(ValueError, match="vocab_size 13, expected 16: .* and 3 of a plan"):
        planned().check(model(), with_plan(14, 13))
    free = dataclasses.replace(planned(), decoding=Sampling(max_length=7, min_length=7))
    with pytest.raises(ValueError, match=r"stages \(\), expected \(\(2, 13, 15\), \(4, 4, 12\)\)"):
        free.check(more, with_plan(14, 13))
    with pytest.raises(ValueError, match="max_length 5 and min_length 5, expected 7 of both"):
        dataclasses.replace(TASK, plan=Plan()).check(more, with_plan(14, 13))


def masked_behind_a_plan(**changes):
    planning = Sampling(max_length=2, min_length=2, stages=((2, 13, 15),))
    fields = {
        "plan": Plan(),
        "planning": planning,
        "decoding": MaskedDecoding(max_length=4, num_steps=2),
    }
    return MaskedTextToImage(tokenizer=WORDS, **{**fields, **changes})


def test_masked_codes_stand_behind_a_plan_that_something_writes():
    decoder = Part(vocab_size=16, causal=False, num_causal=3)
    masked_behind_a_plan().check(model(decoder=decoder), with_plan(14, 13))
    for fields in ({"plan": None}, {"planning": None}):
        with pytest.raises(ValueError, match="expected both, or neither"):
            masked_behind_a_plan(**fields)
    whole = Sampling(max_length=6, min_length=6, stages=((2, 13, 15),))
    with pytest.raises(ValueError, match="max_length 6 and min_length 6, expected 2 of both"):
        masked_behind_a_plan(planning=whole).check(model(decoder=decoder), with_plan(14, 13))
    free = Sampling(max_length=2, min_length=2)
    with pytest.raises(ValueError, match=r"stages \(\), expected \(\(2, 13, 15\),\)"):
        masked_behind_a_plan(planning=free).check(model(decoder=decoder), with_plan(14, 13))


def test_masked_codes_are_read_in_both_directions():
    masked = MaskedTextToImage(tokenizer=WORDS, decoding=MaskedDecoding(max_length=4, num_steps=2))
    masked.check(model(decoder=Part(vocab_size=13, causal=False, num_causal=0)), batch())
    for given in ({"causal": True}, {}, {"causal": False, "num_causal": 3}):
        with pytest.raises(ValueError, match="expected causal=False and num_causal=0"):
            masked.check(model(decoder=Part(vocab_size=13, **given)), batch())
    for number in (0, 2):
        decoder = Part(vocab_size=16, causal=False, num_causal=number)
        with pytest.raises(ValueError, match="num_causal=3: .*behind BOS and the plan"):
            masked_behind_a_plan().check(model(decoder=decoder), with_plan(14, 13))


def test_a_search_of_another_length_is_refused():
    with pytest.raises(ValueError, match="max_length 6 and min_length 5, expected 5 of both"):
        longer = Sampling(max_length=6, min_length=5)
        dataclasses.replace(TASK, decoding=longer).check(model(), batch())
    masked = MaskedTextToImage(tokenizer=WORDS, decoding=MaskedDecoding(max_length=9))
    with pytest.raises(ValueError, match="max_length 9, expected 4"):
        masked.check(model(), batch())


def test_a_search_that_writes_one_text_only_is_refused():
    with pytest.raises(ValueError, match=r"decoding=Greedy.*try Sampling\(temperature=0\)"):
        dataclasses.replace(TASK, decoding=Greedy(max_length=5, min_length=5))


def test_a_background_that_counts_less_needs_a_plan_and_a_weight():
    with pytest.raises(ValueError, match="background_weight 0.5 without a plan"):
        dataclasses.replace(TASK, background_weight=0.5)
    for weight in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"background_weight is {weight}, expected 0 <"):
            dataclasses.replace(TASK, plan=Plan(), background_weight=weight)


def test_guidance_needs_prompts_that_were_left_empty():
    with pytest.raises(ValueError, match="prompt_dropout"):
        dataclasses.replace(TASK, guidance=3.0, prompt_dropout=0.0)
    with pytest.raises(ValueError, match="guidance: given -1"):
        dataclasses.replace(TASK, guidance=-1.0)


def test_readings_are_at_least_one_and_at_most_the_places():
    with pytest.raises(ValueError, match=r"num_steps=9\): expected 1 .. max_length = 8"):
        MaskedDecoding(max_length=8, num_steps=9)


@pytest.mark.parametrize("fields", [{"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}], ids=str)
def test_filters_that_keep_nothing_are_refused(fields):
    with pytest.raises(ValueError, match=rf"MaskedDecoding\({next(iter(fields))}="):
        MaskedDecoding(max_length=8, **fields)
