"""Finding Function in Form: Compositional Character Models for Open Vocabulary Word Representation. Ling et al. 2015,
arXiv 1508.02096 (their experiments on part-of-speech tagging); and Plank et al. 2016, arXiv 1604.05529, who read words
and letters.

    python -m experiments.bilstm_tagger english_ewt train --workdir runs/tagger
    python -m experiments.bilstm_tagger english_ewt evaluate --workdir runs/tagger --only test --record
    python -m experiments.bilstm_tagger predict "The dog runs ." --workdir runs/tagger

A label for each word of UD English-EWT, with the words given (UPOS, 17 tags). A text on the command line is cut into
words at white space: put spaces round punctuation. Words beyond the 96th are left out.

Neither paper reports this treebank in its present release. The number in PAPER is not out of a table: it is the lower
end of what BiLSTM taggers without pretrained vectors are commonly said to reach on its test set (95 to 96).

Departures from Ling et al.:
- the letters are read by a convolution (Ma and Hovy 2016), over UTF-8 bytes, at most 18 of a word; the paper has a
  BiLSTM over letters. A vector of the word itself stands beside it (lower case, words seen at least twice), as in Plank
  et al.
- UD English-EWT in place of the Penn Treebank.
- Adam with a rate falling linearly from 3e-3 to 0, 11 epochs in batches of 1,024 words, dropout 0.33 of inputs and of
  what is classified, 20 % of the words read as UNK.
"""

import sys

from experiments import captioners, treebanks
from vlm_jax.main import main
from vlm_jax.models.tagger import Tagger
from vlm_jax.report.confusion import Confusion
from vlm_jax.tasks.tagging import Tagging
from vlm_jax.text.conllu import UPOS
from vlm_jax.train.experiment import Experiment

CITATION = "Ling et al. 2015, on another treebank"
PAPER = {"english_ewt": {"accuracy": 95.0}}  # see above: from memory of the literature, no table


def english_ewt() -> Experiment:
    """UPOS of UD English-EWT, gold words."""
    data = treebanks.english_ewt(reads="upos", tokens=1024)
    encoder = treebanks.encoder(
        data.lexicon,
        word_width=100,
        letter_width=32,
        filters=100,
        width=128,
        num_layers=1,
        dropout_rate=0.33,
        word_dropout_rate=0.2,
    )
    return tagger(data, encoder, num_steps=3000, evaluations=3)


def smoke() -> Experiment:
    """Two steps on three sentences, tiny."""
    data = treebanks.three_sentences(reads="upos")
    encoder = treebanks.tiny_encoder(data.lexicon)
    return captioners.smoke(tagger(data, encoder, num_steps=2, evaluations=1))


def tagger(data: treebanks.Treebank, encoder, *, num_steps: int, evaluations: int) -> Experiment:
    return treebanks.trained(
        data,
        Tagger(num_labels=len(UPOS), text_encoder=encoder, dropout_rate=0.33),
        Tagging(names=UPOS),
        best="accuracy",
        report=lambda source: Confusion(source=source),
        loss=True,
        beta2=0.99,
        num_steps=num_steps,
        evaluations=evaluations,
    )


if __name__ == "__main__":
    sys.exit(main(english_ewt, smoke))
