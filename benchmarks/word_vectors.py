"""Word2Vec beside gensim's: the same text, words and settings, in one run, with several seeds each.

    python -m venv gensim && gensim/bin/pip install gensim
    python -m benchmarks.word_vectors --gensim gensim/bin/python --seeds 3 --threads 2

100 numbers a word, a window of 5, 5 negatives, words seen 5 times, 5 epochs (experiments/word2vec.py). gensim runs in an
interpreter of its own and gets the words that our tokenizer finds. A line of JSON a run: words a second (of the text, over
all epochs, by the clock and by CPU time; compilation is counted, building the vocabulary is not) and the scores of the
experiment's own evaluations for both. At the end the means and deviations, and the ratios of ours to gensim's.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import word2vec
from vlm_jax.data.word_windows import encoded_text
from vlm_jax.text.word_vectors import read_vectors
from vlm_jax.train.evaluation import evaluate
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.loop import train

KINDS = {"skip_gram": word2vec.skip_gram, "cbow": word2vec.cbow}


@dataclasses.dataclass(frozen=True)
class Table:
    """A model of given vectors, to be asked as ours is."""

    def apply(self, variables: Mapping[str, Any], *, method: str) -> Any:
        return variables["params"]


def ours(experiment: Experiment, seed: int) -> dict[str, float]:
    """Trains with the loop and nothing but it; the scores of its model."""
    experiment = dataclasses.replace(experiment, seed=seed)
    windows = experiment.seeded_train_data
    next(windows.batches())  # reads and tokenizes the text
    start, cpu = time.perf_counter(), time.process_time()
    state = train(dataclasses.replace(experiment, evaluations=()))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return {
        **speed(windows.num_words, seconds, cpu_seconds),
        **scores(experiment, experiment.model, state.eval_variables),
    }


def gensims(
    experiment: Experiment,
    python: str,
    kind: str,
    seed: int,
    threads: int,
    rate: float,
    sentences: Path,
) -> dict[str, float]:
    """The same of gensim's, in the rows of our tokenizer."""
    file = sentences.with_name(f"{kind}{seed}.bin")
    script = Path(__file__).with_name("gensim_word2vec.py")
    command = [python, script, sentences, file, kind, seed, threads, rate]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python} with gensim failed:\n{done.stderr[-2000:]}")
    spent = json.loads(done.stdout)
    windows = experiment.train_data
    words, found = windows.tokenizer.vocabulary, read_vectors(file)
    if set(words[4:]) != set(found.words):
        raise SystemExit(f"gensim has {len(found.words)} words, ours are {len(words) - 4}")
    row = {word: number for number, word in enumerate(words)}
    table = np.zeros((windows.tokenizer.vocab_size, found.vectors.shape[1]), np.float32)
    table[[row[word] for word in found.words]] = found.vectors
    return {
        **speed(windows.num_words, spent["seconds"], spent["cpu_seconds"]),
        **scores(experiment, Table(), {"params": table}),
    }


def speed(num_words: int, seconds: float, cpu_seconds: float) -> dict[str, float]:
    total = word2vec.EPOCHS * num_words
    return {"words_per_second": total / seconds, "words_per_cpu_second": total / cpu_seconds}


def scores(experiment: Experiment, model: Any, variables: Any) -> dict[str, float]:
    found = {}
    for evaluation in experiment.evaluations:
        numbers = evaluate(evaluation, model, experiment.task, variables).numbers
        (name,) = numbers.keys() - {"coverage"}
        found[f"{evaluation.name}_{name}"] = numbers[name]
    return found


def write_sentences(experiment: Experiment, path: Path) -> None:
    """The text as our tokenizer cuts it, the words that it knows, a line a sentence."""
    windows = experiment.train_data
    words = np.array(windows.tokenizer.vocabulary)
    text = encoded_text(windows.source, windows.tokenizer, windows.texts)
    ends = np.cumsum(text.lengths)
    with open(path, "w", encoding="utf-8") as file:
        for end, length in zip(ends, text.lengths):
            file.write(" ".join(words[text.ids[end - length : end]]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gensim", required=True, help="a Python that has gensim")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="gensim's workers")
    parser.add_argument("--gensim_rate", type=float, default=0.025, help="gensim's alpha")
    parser.add_argument("--only", choices=KINDS, action="append")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sentences = Path(folder) / "sentences.txt"
        for kind in options.only or KINDS:
            experiment = KINDS[kind]()
            write_sentences(experiment, sentences)
            found: dict[str, list[dict[str, float]]] = {"ours": [], "gensim": []}
            for seed in range(options.seeds):
                for who in found:
                    if who == "ours":
                        numbers = ours(experiment, seed)
                    else:
                        numbers = gensims(
                            experiment,
                            options.gensim,
                            kind,
                            seed,
                            options.threads,
                            options.gensim_rate,
                            sentences,
                        )
                    found[who].append(numbers)
                    line = {name: float(f"{value:.4g}") for name, value in numbers.items()}
                    print(json.dumps({"model": kind, "by": who, "seed": seed, **line}), flush=True)
            for name in found["ours"][0]:
                print(summary(kind, name, found), flush=True)


def summary(kind: str, name: str, found: Mapping[str, list[dict[str, float]]]) -> str:
    values = {who: [numbers[name] for numbers in runs] for who, runs in found.items()}
    means = {who: statistics.fmean(numbers) for who, numbers in values.items()}
    shown = [
        f"{who} {means[who]:.4g} ± {statistics.stdev(numbers) if len(numbers) > 1 else 0:.2g}"
        for who, numbers in values.items()
    ]
    ratio = means["ours"] / means["gensim"] if means["gensim"] else float("nan")
    return f"{kind} {name}: {', '.join(shown)}, ratio {ratio:.2f}"


if __name__ == "__main__":
    main()
