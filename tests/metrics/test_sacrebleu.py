"""Our sums against sacreBLEU's own corpus score."""

import json
import random

import pytest
import sacrebleu

from vlm_jax.metrics.__main__ import main
from vlm_jax.metrics.base import score, total
from vlm_jax.metrics.sacrebleu import SacreBleu

REFERENCES = (
    "Ein Mann fährt Fahrrad.",
    "Zwei Hunde laufen am Strand, und ein Kind sieht zu.",
    "„Ein Mädchen“ in einem roten Kleid (1,5 m).",
    "Das literale <eos> ist ein Wort!",
    "",
)
HYPOTHESES = (
    "Ein Mann fährt auf einem Fahrrad.",
    "Zwei Hunde rennen am Strand, und ein Kind sieht zu.",
    "Ein Mädchen in einem roten Kleid.",
    "<eos>",
    "",
)
METRIC = SacreBleu(reference="de")


def ours(metric, hypotheses, *references):
    rows = zip(hypotheses, zip(*references))
    return metric.result(total([metric.stats(h, r) for h, r in rows]))["bleu"]


def made(seed, count=40):
    """Sentences of few words, so that n-grams of every order meet, and of every length down to none."""
    rng = random.Random(seed)
    words = ["der", "Hund", "läuft", ",", "Der", "1,000", "am-Strand", "é", "$5", "."]
    return [" ".join(rng.choices(words, k=rng.randrange(12))) for _ in range(count)]


def test_the_number_is_the_corpus_score_of_sacrebleu():
    assert ours(METRIC, HYPOTHESES, REFERENCES) == pytest.approx(
        sacrebleu.corpus_bleu(list(HYPOTHESES), [list(REFERENCES)]).score, abs=1e-9
    )
    for seed in range(20):
        hypotheses, references, others = made(seed), made(seed + 100), made(seed + 200)
        one = sacrebleu.corpus_bleu(hypotheses, [references])
        two = sacrebleu.corpus_bleu(hypotheses, [references, others], lowercase=True)
        assert ours(METRIC, hypotheses, references) == pytest.approx(one.score, abs=1e-9)
        metric = SacreBleu(reference="de", num_references=2, lowercase=True)
        assert ours(metric, hypotheses, references, others) == pytest.approx(two.score, abs=1e-9)
    # By hand: 5 of 7 words, 3 of 6, 1 of 5 and, smoothed, half of one of 4 longer n-grams are in the reference.
    found = ours(METRIC, ["Ein Mann fährt auf einem Fahrrad."], ["Ein Mann fährt Fahrrad ."])
    assert found == pytest.approx(100 * (5 / 7 * 3 / 6 * 1 / 5 * 1 / (2 * 4)) ** 0.25)


def test_the_sums_do_not_depend_on_the_order_or_the_batches():
    stats = [METRIC.stats(h, [r]) for h, r in zip(HYPOTHESES, REFERENCES)]
    whole = METRIC.result(total(stats))
    for cut in range(1, len(stats)):
        parts = total([total(stats[cut:]), total(stats[:cut])])
        assert parts == total(stats) and METRIC.result(parts) == whole


def test_a_perfect_translation_scores_100_and_an_empty_one_0():
    for references in (REFERENCES, made(3)):
        assert ours(METRIC, references, references) == pytest.approx(100)
        assert ours(METRIC, [""] * len(references), references) == 0


def test_the_case_counts_unless_it_is_asked_not_to():
    assert ours(METRIC, ["ein MANN fährt rad ."], ["Ein Mann fährt Rad ."]) < 100
    lower = SacreBleu(reference="de", lowercase=True)
    assert ours(lower, ["ein MANN fährt rad ."], ["Ein Mann fährt Rad ."]) == pytest.approx(100)


def test_the_signature_is_that_of_sacrebleu():
    version = sacrebleu.__version__
    expected = f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert METRIC.signature() == expected
    two = SacreBleu(reference="de", num_references=2, lowercase=True, tokenize="intl")
    assert two.signature().startswith("nrefs:2|case:lc|eff:no|tok:intl")
    assert METRIC.signature() == expected


def test_another_number_of_references_is_refused():
    for references in ([], ["a", "b"], "text"):
        with pytest.raises(ValueError, match="expected a sequence of 1 texts"):
            METRIC.stats("a", references)


def test_files_of_lines_are_scored_from_the_command_line(tmp_path, capsys):
    gold, found = tmp_path / "test.de", tmp_path / "hyps.de"
    gold.write_text("\n".join(REFERENCES) + "\n")
    found.write_text("\n".join(HYPOTHESES) + "\n")
    arguments = ["translation", "--references", str(gold), "--predictions", str(found)]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    gold_by_id = {i: [text] for i, text in enumerate(REFERENCES)}
    assert printed["bleu"] == score(METRIC, dict(enumerate(HYPOTHESES)), gold_by_id)["bleu"]
    assert printed["signature"] == f"{METRIC.signature()}|lines:5"
    found.write_text("only one\n")
    assert main(arguments) == 2
    assert "hyps.de has 1 lines" in capsys.readouterr().err
