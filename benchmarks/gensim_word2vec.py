"""gensim's Word2Vec on a file of sentences: the other side of benchmarks/word_vectors.py, in its own interpreter.

    python gensim_word2vec.py SENTENCES VECTORS.bin skip_gram|cbow SEED THREADS RATE

Prints as JSON how many seconds, and seconds of CPU time, training took; building the vocabulary is not counted.
"""

import json
import sys
import time

from gensim.models import Word2Vec


def main(sentences: str, vectors: str, kind: str, seed: str, threads: str, rate: str) -> None:
    with open(sentences, encoding="utf-8") as file:
        words = [line.split() for line in file]
    model = Word2Vec(
        vector_size=100,
        window=5,
        negative=5,
        min_count=5,
        sample=1e-3,
        sg=int(kind == "skip_gram"),
        seed=int(seed),
        alpha=float(rate),
        workers=int(threads),
    )
    model.build_vocab(words)
    start, cpu = time.perf_counter(), time.process_time()
    model.train(words, total_examples=model.corpus_count, epochs=5)
    spent = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
    }
    model.wv.save_word2vec_format(vectors, binary=True)
    print(json.dumps(spent))


if __name__ == "__main__":
    main(*sys.argv[1:])
