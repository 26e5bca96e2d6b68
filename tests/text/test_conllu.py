import pytest

from vlm_jax.text.conllu import read_conllu, tree_fault, write_conllu

DONT = """\
# text = I don't .
1\tI\tI\tPRON\tPRP\t_\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
4\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
4.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t0:exp\t_
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

"""


def read(text):
    return list(read_conllu(text.splitlines(keepends=True), "a.conllu"))


def test_multiword_tokens_and_empty_nodes_are_no_words():
    (sentence,) = read(DONT)
    assert sentence.words == ("I", "do", "n't", "go", ".")
    assert sentence.upos == ("PRON", "AUX", "PART", "VERB", "PUNCT")
    assert sentence.xpos == ("PRP", "VBP", "RB", "VB", ".")
    assert sentence.heads == (4, 4, 4, 0, 4)
    assert sentence.relations == ("nsubj", "aux", "advmod", "root", "punct")


def test_what_is_written_is_read_again():
    first = read(DONT)[0]
    words = ("new york", "a\u00a0b", "#", "\x00", "\U0001f468\u200d\U0001f469", "-", "1-2", "=")
    second = first._replace(
        words=words, upos=("X",) * 8, heads=(2, 3, 0, 3, 3, 3, 3, 3), relations=("dep",) * 8
    )
    for sentence in (first, second):
        lines = write_conllu(sentence.words, sentence.heads, sentence.relations, sentence.upos)
        (again,) = read(f"# a comment\n{lines}\n\n")
        expected = tuple(" ".join(word.split()) for word in sentence.words)
        assert again == sentence._replace(words=expected, xpos=("_",) * len(expected))


def test_a_word_cannot_break_out_of_its_column():
    lines = write_conllu(["a\tb\nc", " \t"], [0, 1], ["root", "dep"])
    assert [sentence.words for sentence in read(lines + "\n\n")] == [("a b c", "_")]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("4\tgo\tgo", "5\tgo\tgo", "line 6: given the number '5', expected 4"),
        ("1\tI\tI", "x\tI\tI", "line 2: given the number 'x', expected 1"),
        ("\t4\tpunct", "\tfour\tpunct", "line 8: given the head 'four', expected a whole number"),
        ("\t4\tpunct", "\t-4\tpunct", "line 8: given the head '-4'"),
        ("\t4\tpunct", "\t9\tpunct", "line 1: .*I do n't go .* is no tree: head 9 is outside"),
        ("\t4\tpunct", "\t0\tpunct", "line 1: .*is no tree: 2 words have the root as head"),
        ("\t4\tnsubj", "\t1\tnsubj", "line 1: .*is no tree: word 1 is above itself"),
        ("\tnsubj\t_\t_", "\tnsubj\t_", "line 2: given 9 columns in"),
        ("1\tI\tI", "1\t\tI", "line 2: word 1 has no form"),
        (
            ".\tPUNCT\t.\t_\t4\tpunct\t_\t_\n\n",
            ".\tPUNCT\t.\t_\t4\tpunct\t_\t_",
            "line 8: the file ends",
        ),
    ],
)
def test_a_malformed_line_is_refused_by_file_and_number(old, new, message):
    assert old in DONT
    with pytest.raises(ValueError, match=f"a.conllu, {message}"):
        read(DONT.replace(old, new))


def test_what_is_no_tree():
    assert tree_fault(()) is None and tree_fault((0,)) is None and tree_fault((2, 0)) is None
    assert "cycle" in tree_fault((2, 1, 0)) and "cycle" in tree_fault((1, 0))
    assert "0 words" in tree_fault((2, 1)) and "2 words" in tree_fault((0, 0))
    assert "outside" in tree_fault((0, 3)) and "outside" in tree_fault((0, -1))
