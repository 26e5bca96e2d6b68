"""Every way of putting image and text together, side by side: questions about the pictures made here, and DAQUAR.

    make demo                                             (the captioner whose eyes they all have, in runs/demo)
    python -m experiments.fusion_study all --workdir runs/fusion_study --seeds 0,1,2
    python -m experiments.fusion_study film train --data daquar --workdir runs/film.daquar

The second command makes all runs, one after another, each in a folder of its own; stopped at any time it goes on where it
was, and of a run whose result file is there nothing is done again. It writes experiments/results/fusion_study.md and .png.
A run alone is the third.

What all have alike: a GRU of 128 units over word vectors of 64, read at its last word; the 8x8 places that the CNN of the
default captioner sees (scenes; it has learned from captions, and no question), or 7x7 places of MobileNetV2 (DAQUAR), both
frozen, their features computed once, and projected to 128 numbers; after the fusion a hidden layer of 256 units; the steps, the learning rate,
the order of the data. Nothing was tuned for one of them. FiLM alone is pooled by the largest value, over places; the other
results are read at their last position, which is the whole question, or the only one. `blind` does not see the picture.

concat, sum, product, gated          Arevalo et al. 2017, arXiv 1702.01992 (gated)
mlb, mutan, mcb, mfb                 Kim et al. 2017, 1610.04325; Ben-younes et al. 2017, 1705.06676; Fukui et al. 2016,
                                     1606.01847; Yu et al. 2017, 1708.01471
film                                 Perez et al. 2018, 1709.07871
stacked_attention                    Yang et al. 2016, 1511.02274
parallel_, alternating_co_attention  Lu et al. 2016, 1606.00061
cross_attention                      Vaswani et al. 2017, 1706.03762
resampler, prefix                    Alayrac et al. 2022, 2204.14198; Liu et al. 2023, 2304.08485; both then read by
                                     one Transformer block over places and words, as in VisualBERT (Li et al. 2019, 1908.03557)

Departures from all of these papers: their sizes, data and training. The numbers compare the fusions, not the papers.
"""

import argparse
import dataclasses
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn

from experiments import answerers, questions, show_attend_and_tell, studies
from vlm_jax.commands.command import RESULTS, UserError
from vlm_jax.fusion.bilinear import Mcb, Mfb, Mlb, Mutan
from vlm_jax.fusion.co_attention import AlternatingCoAttention, ParallelCoAttention
from vlm_jax.fusion.concat import Concat
from vlm_jax.fusion.cross_attention import CrossAttention
from vlm_jax.fusion.elementwise import Product, Sum
from vlm_jax.fusion.film import Film
from vlm_jax.fusion.gated import Gated
from vlm_jax.fusion.prefix import Prefix
from vlm_jax.fusion.resampler import Resampler
from vlm_jax.fusion.single_stream import SingleStream
from vlm_jax.fusion.stacked_attention import StackedAttention
from vlm_jax.language.recurrent import RecurrentEncoder
from vlm_jax.layers.pooling import last_pool, max_pool
from vlm_jax.layers.recurrent import GRU
from vlm_jax.main import main
from vlm_jax.models.classifier import Classifier
from vlm_jax.report.results import mean_and_deviation, read_results
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import Adam, Cosine
from vlm_jax.vision.precomputed import Precomputed
from vlm_jax.vision.small_cnn import SmallCnn

CITATION = "the papers of the methods"
PAPER = {}
WIDTH = 128
ENCODER = "runs/demo"
STEPS = {"scenes": 4_000, "daquar": 2_000}
RECORDED = {"scenes": "scenes-test_unseen", "daquar": "daquar_single"}  # of a run, the last
MEASURED = {  # data set and split -> the name of the column
    ("scenes", "test"): "scenes",
    ("scenes", "test_unseen"): "unseen pairs",
    ("daquar_single", "test"): "DAQUAR",
}


def blind(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """The question alone."""
    return study(data, encoder, None)


def concat(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """Side by side."""
    return study(data, encoder, Concat(width=WIDTH))


def sum(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """Added."""
    return study(data, encoder, Sum(width=WIDTH))


def product(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """Multiplied, number by number."""
    return study(data, encoder, Product(width=WIDTH))


def gated(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """A gate between the two."""
    return study(data, encoder, Gated(width=WIDTH))


def mlb(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """Bilinear, of low rank."""
    return study(data, encoder, Mlb(hidden=2 * WIDTH, width=WIDTH))


def mutan(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """Bilinear, a Tucker decomposition."""
    return study(data, encoder, Mutan(image_width=WIDTH, text_width=WIDTH, width=WIDTH, rank=5))


def mcb(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """Bilinear, hashed to 1,024 numbers."""
    return study(data, encoder, Mcb(width=1024))


def mfb(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """Bilinear, sums of five products."""
    return study(data, encoder, Mfb(width=WIDTH, num_factors=5))


def film(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """The text scales and shifts the features of two residual blocks."""
    fusion = Film(width=64, num_blocks=2, output_width=WIDTH, text_pooling=last_pool)
    return study(data, encoder, fusion, pooling=max_pool)


def stacked_attention(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """The question looks twice."""
    return study(data, encoder, StackedAttention(attention_width=WIDTH, text_pooling=last_pool))


def parallel_co_attention(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """Places and words weigh each other, at once."""
    return study(data, encoder, ParallelCoAttention(attention_width=WIDTH))


def alternating_co_attention(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """Places and words weigh each other, in turn."""
    return study(data, encoder, AlternatingCoAttention(attention_width=WIDTH))


def cross_attention(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """Every word looks at the picture, in two layers."""
    return study(data, encoder, CrossAttention(num_layers=2, hidden=2 * WIDTH))


def resampler(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """Eight vectors of the picture before the words, read together by one block."""
    fusion = Resampler(num_latents=8, hidden=2 * WIDTH)
    return study(data, encoder, SingleStream(fusion=fusion, hidden=2 * WIDTH))


def prefix(data: str = "scenes", encoder: str = ENCODER) -> Experiment:
    """All places of the picture before the words, read together by one block."""
    return study(data, encoder, SingleStream(fusion=Prefix(), hidden=2 * WIDTH))


def smoke() -> Experiment:
    """Two steps, tiny."""
    data = questions.scenes(batch_size=4, config="tiny")
    cnn = SmallCnn(features=(4, 4, 4))
    model = _model(data, Mcb(width=16), image_encoder=cnn, pooling=last_pool, width=4, hidden=8)
    return answerers.smoke(_trained(data, model, num_steps=2))


def study(
    data: str, encoder: str, fusion: nn.Module | None, *, pooling: Any = last_pool
) -> Experiment:
    """The fusion, None for none, between the encoders of `data`: scenes, where the run in `encoder` reads the pictures, or
    daquar."""
    if data not in STEPS:
        raise UserError(f"--data: given {data}, expected one of {', '.join(STEPS)}")
    if data == "scenes":
        cnn = show_attend_and_tell.scenes().model.image_encoder
        source = questions.scenes_features(batch_size=64, encoder=cnn, workdir=encoder)
    else:
        source = questions.daquar(batch_size=64)
    image_encoder = Precomputed(width=WIDTH)
    model = _model(source, fusion, image_encoder=image_encoder, pooling=pooling)
    return _trained(source, model, num_steps=STEPS[data])


def _model(
    data: questions.QuestionData,
    fusion: nn.Module | None,
    *,
    image_encoder: nn.Module,
    pooling: Any,
    width: int = WIDTH,
    hidden: int = 256,
) -> Classifier:
    return Classifier(
        num_classes=len(data.classes),
        image_encoder=None if fusion is None else image_encoder,
        text_encoder=RecurrentEncoder(
            cell=GRU(),
            vocab_size=data.tokenizer.vocab_size,
            width=width,
            embedding_width=width // 2,
            bidirectional=False,
            embedding_dropout_rate=0.1,
        ),
        fusion=fusion,
        pooling=pooling,
        dropout_rate=0.2,
        hidden=hidden,
    )


def _trained(data: questions.QuestionData, model: Classifier, *, num_steps: int) -> Experiment:
    optimizer = Adam(learning_rate=Cosine(peak=1e-3, num_steps=num_steps), clip_norm=5.0)
    experiment = answerers.answerer(
        data, model, optimizer=optimizer, num_steps=num_steps, evaluations=3
    )
    compared = tuple(e for e in experiment.evaluations if e.name != "test_all")
    return dataclasses.replace(experiment, evaluations=compared)


# ---- all of them


RUNS = {
    function.__name__: function
    for function in (
        *(blind, concat, sum, product, gated, mlb, mutan, mcb, mfb, film, stacked_attention),
        *(parallel_co_attention, alternating_co_attention, cross_attention, resampler, prefix),
    )
}


def run(argv: Sequence[str]) -> int:
    """All runs that have no record, then the table and the picture. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.fusion_study all")
    parser.add_argument("--workdir", required=True, help="where the runs lie")
    parser.add_argument("--results", default=RESULTS, help="where their records lie")
    parser.add_argument("--seeds", default="0", help="0,1,2: each of the runs with each of these")
    parser.add_argument("--data", default=",".join(STEPS), help="scenes, daquar, or both")
    parser.add_argument("--encoder", default=ENCODER, help="the captioner's run")
    parser.add_argument("--table", action="store_true", help="only of what is recorded")
    options = parser.parse_args(argv)
    results = Path(options.results)
    results.mkdir(parents=True, exist_ok=True)
    for seed in () if options.table else map(int, options.seeds.split(",")):
        for data in options.data.split(","):
            for name in RUNS:
                code = studies.run(
                    [RUNS[name]],
                    name,
                    seed,
                    Path(options.workdir),
                    results,
                    dataset=RECORDED[data],
                    arguments={"data": data},
                    unnamed={"encoder": options.encoder},
                    tests="test,test_unseen" if data == "scenes" else "test",
                )
                if code:
                    return code
    found = recorded(results)
    (results / "fusion_study.md").write_text(table(found))
    plot(found, results / "fusion_study.png")
    print(table(found), end="")
    return 0


def recorded(results: Path) -> list[Mapping[str, Any]]:
    """The records of this study, on the data that are compared."""
    return [
        result
        for result in read_results(results)
        if result["experiment"] == "fusion_study"
        and (result["dataset"], result["split"]) in MEASURED
    ]


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row a fusion, the mean and deviation over seeds."""
    head = ["fusion", *(f"{name}, accuracy" for name in MEASURED.values())]
    head += ["parameters", "minutes", "seeds"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    majority = [_numbers(found, place, None, "accuracy_majority") for place in MEASURED]
    if any(majority):
        cells = [mean_and_deviation("accuracy", values[:1]) for values in majority]
        lines.append(
            f"| most frequent answer of each kind of question | {' | '.join(cells)} |  |  |  |"
        )
    for name in RUNS:
        runs = {place: _of(found, place, name) for place in MEASURED}
        cells = [
            mean_and_deviation("accuracy", _numbers(found, place, name, "accuracy"))
            for place in MEASURED
        ]
        tests = [runs["scenes", "test"], runs["daquar_single", "test"]]
        parameters = [f"{rows[0]['parameters'] / 1000:.0f} k" for rows in tests if rows]
        hours = [[run["hours"] for run in rows if run["hours"] is not None] for rows in tests]
        minutes = [f"{60 * statistics.fmean(each):.1f}" for each in hours if each]
        seeds = list(dict.fromkeys(str(len(rows)) for rows in tests if rows)) or ["0"]
        cells += [" / ".join(parameters), " / ".join(minutes), " / ".join(seeds)]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A panel for each column: the fusions from worst to best, a bar the mean, a point a seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), dpi=110, layout="constrained")
    for index, (place, title) in enumerate(MEASURED.items()):
        axes = figure.add_subplot(1, len(MEASURED), index + 1)
        values = {name: _numbers(found, place, name, "accuracy") for name in RUNS}
        values = {name: each for name, each in values.items() if each}
        names = sorted(values, key=lambda name: statistics.fmean(values[name]))
        for row, name in enumerate(names):
            mean = statistics.fmean(values[name])
            axes.barh(row, mean, color="#b9b4aa" if name == "blind" else "#5b7fa6", height=0.7)
            axes.plot(values[name], [row] * len(values[name]), ".", color="#1f2d3d", markersize=5)
            axes.text(max(values[name]), row, f"  {mean:.1f}", va="center", fontsize=8)
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=9)
        axes.set_title(f"{title}, accuracy", fontsize=11, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        if names:
            means = [statistics.fmean(values[name]) for name in names]
            axes.set_xlim(max(0, means[0] - 0.3 * (means[-1] - means[0]) - 2), means[-1] * 1.08)
    part = path.with_name(f"{path.name}.part")
    figure.savefig(part, format="png", facecolor="white")
    os.replace(part, path)


def _of(found, place: tuple[str, str], name: str | None) -> list[Mapping[str, Any]]:
    return [
        run
        for run in found
        if (run["dataset"], run["split"]) == place and name in (None, run["function"])
    ]


def _numbers(found, place: tuple[str, str], name: str | None, metric: str) -> list[float]:
    runs = _of(found, place, name)
    return [run["metrics"][metric] for run in runs if metric in run["metrics"]]


if __name__ == "__main__":
    if sys.argv[1:2] == ["all"]:
        sys.exit(run(sys.argv[2:]))
    sys.exit(
        main(
            blind,
            concat,
            sum,
            product,
            gated,
            mlb,
            mutan,
            mcb,
            mfb,
            film,
            stacked_attention,
            parallel_co_attention,
            alternating_co_attention,
            cross_attention,
            resampler,
            prefix,
            smoke,
        )
    )
