"""What must hold of the search and of sampling: the tests of tests/decoding, under names for a table."""

import functools

from tests.decoding import test_beam_search as beam
from tests.decoding import test_sampling as sampling
from tests.decoding.toys import compiled

SEARCH, DECODE = beam.search.__wrapped__, sampling.decode.__wrapped__


def forget():
    """Lets the tests' functions be compiled anew; a new function each, since JAX remembers the old ones."""
    beam.search = compiled(lambda *arguments: SEARCH(*arguments), static_argnums=0)
    sampling.decode = compiled(lambda *arguments: DECODE(*arguments), static_argnums=0)


def _named(name, test, *arguments):
    check = functools.partial(test, *arguments)
    check.__name__ = name
    return check


BEAM_CHECKS = (
    _named("exhaustive", beam.test_a_beam_as_wide_as_the_space_finds_the_best_sentence, 1.0),
    _named("as_with_lists", beam.test_the_search_equals_one_written_with_lists, beam.WIDE),
    _named("beam_1_is_greedy", beam.test_a_beam_of_one_is_greedy, 1.0, {}),
    _named("rescored", beam.test_scores_are_the_rescored_log_probs_over_the_length),
    _named("rows_apart", beam.test_a_row_does_not_depend_on_the_others),
    _named("limit", beam.test_the_early_stop_saves_steps_and_not_results),
    _named("pad_after_eos", beam.test_only_pad_follows_eos),
    _named(
        "trigrams_min_length", beam.test_no_trigram_comes_twice_and_no_shorter_sentence_than_asked
    ),
    _named("banned", beam.test_banned_tokens_never_come),
)

SAMPLING_CHECKS = (
    _named(
        "greedy_is_argmax", sampling.test_greedy_takes_the_most_probable_token_at_every_position
    ),
    _named(
        "t_0_is_greedy", sampling.test_temperature_zero_and_top_k_one_and_a_tiny_top_p_are_greedy
    ),
    _named("chi_square", sampling.test_samples_without_filters_follow_the_model),
    _named("filters", sampling.test_temperature_then_top_k_then_top_p),
    _named("noise", sampling.test_the_same_key_draws_the_same_text_and_rows_draw_different_noise),
    _named(
        "row_keys", sampling.test_with_a_key_a_row_what_a_row_draws_does_not_depend_on_the_batch
    ),
)
