"""What Word2Vec and GloVe share: the text, the tests, and the file of what was learned.

python -m experiments.word_vectors runs/skip_gram vectors.bin       (or .txt: word2vec's form; .glove.txt: GloVe's)
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax

from vlm_jax.commands.saved import with_saved_tokenizers
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import Rows, Source, Tfds
from vlm_jax.data.word_corpus import WordCorpus
from vlm_jax.data.word_queries import ReadQuery, WordRow, WordRows
from vlm_jax.metrics.analogies import Analogies
from vlm_jax.metrics.spearman import Spearman
from vlm_jax.tasks.word_queries import Neighbours, Similarity
from vlm_jax.text import word_vectors as files
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train import checkpoints
from vlm_jax.train.evaluation import Evaluation

VOCAB_SIZE = 18_432  # 18,328 words are seen five times


def corpus_and_words() -> tuple[Source, WordTokenizer]:
    """The captions, e-mails and newspaper articles, and their words seen at least five times."""
    corpus = WordCorpus()
    tokenizer = WordTokenizer(corpus=corpus, vocab_size=VOCAB_SIZE, min_count=5, texts="sentence")
    return corpus, tokenizer


def evaluations(tokenizer: WordTokenizer) -> tuple[Evaluation, ...]:
    """Google's analogies and four lists of similar words. The first is also what `predict` asks: nearest words."""
    analogies = [
        Tfds("word_eval", split, config="analogies") for split in ("semantic", "syntactic")
    ]
    similarity = [
        Tfds("word_eval", split, config="similarity")
        for split in ("ws353", "simlex999", "men", "mturk771")
    ]
    return (
        *(analogy_evaluation(source.split, source, tokenizer) for source in analogies),
        *(_similarity_evaluation(source, tokenizer) for source in similarity),
    )


def analogy_evaluation(
    name: str, source: Source, tokenizer: Any, batch_size: int = 500
) -> Evaluation:
    return Evaluation(
        name=name,
        data=Pipeline(
            source=source,
            transforms=(ReadQuery(tokenizer=tokenizer), WordRow(tokenizer=tokenizer)),
            batch_size=batch_size,
            train=False,
        ),
        task=Neighbours(tokenizer=tokenizer, metrics=(Analogies(),)),
        loss=False,
    )


def _similarity_evaluation(source: Tfds, tokenizer: Any) -> Evaluation:
    return Evaluation(
        name=source.split,
        data=Pipeline(
            source=source,
            transforms=(WordRows(tokenizer=tokenizer),),
            batch_size=1000,
            train=False,
        ),
        task=Similarity(tokenizer=tokenizer, metrics=(Spearman(),)),
        loss=False,
    )


def small_corpus_and_words() -> tuple[Source, WordTokenizer]:
    """A few sentences, for `smoke`."""
    sentences = (
        "the king and the queen",
        "the man and the woman",
        "a king is a man , a queen a woman",
    )
    corpus = Rows(names=("sentence",), rows=tuple((text,) for text in sentences * 4))
    return corpus, WordTokenizer(corpus=corpus, vocab_size=16, texts="sentence")


def small_evaluations(tokenizer: WordTokenizer) -> tuple[Evaluation, ...]:
    rows = (("queen - king + man", "woman"), ("queen - king + unheard", "of"))
    source = Rows(names=("query", "answer"), rows=rows)
    return (dataclasses.replace(analogy_evaluation("few", source, tokenizer, 4)),)


def export(workdir: Path, file: str) -> None:
    """Writes what the newest checkpoint of a run has learned, for other programs or for pretrained.WordVectors."""
    experiment = with_saved_tokenizers(checkpoints.load_experiment(workdir), workdir)
    variables = checkpoints.load_variables(workdir)
    vectors = jax.device_get(experiment.model.apply(variables, method="vectors"))
    words = experiment.evaluations[0].task.tokenizer.vocabulary
    write = files.write_word2vec_text
    if file.endswith(".bin"):
        write = files.write_word2vec_binary
    elif file.endswith(".glove.txt"):
        write = files.write_glove
    write(file, words[4:], vectors[4 : len(words)])
    print(f"wrote {len(words) - 4:,} vectors of {vectors.shape[1]} numbers to {file}")


if __name__ == "__main__":
    export(Path(sys.argv[1]), sys.argv[2])
