import dataclasses
import json
import math

import pytest

from vlm_jax.data.encoded import Encoded
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.sampling import EachCaption, First
from vlm_jax.data.source import InMemory, Tfds
from vlm_jax.report.record import dataset_and_split, hours_of_training, write_results
from vlm_jax.report.results import read_results
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.vision.small_cnn import SmallCnn

RUN = {
    "experiment": "merge",
    "function": "paper",
    "seed": 2,
    "commit": "c0ffee",
    "command": "python -m experiments.merge train",
    "device": "1 x cpu",
    "hours": 0.5,
    "parameters": 1_600_000,
}


def evaluation(source, **changes):
    data = Pipeline(source=source, batch_size=2, train=False)
    return Evaluation(name="test", data=data, **changes)


@pytest.mark.parametrize(
    "source, expected",
    [
        (Tfds("flickr8k", "test"), ("flickr8k", "test")),
        (Tfds("scenes", "test", config="default"), ("scenes", "test")),
        (Tfds("scenes", "test", config="tiny"), ("scenes_tiny", "test")),
        (Tfds("scenes", "test[:50%]"), ("scenes", "test[:50%]")),
        (
            EachCaption(
                Encoded(
                    source=Tfds("flickr8k", "test"),
                    encoder=SmallCnn(features=(4,)),
                    standardise=Tfds("flickr8k", "train"),
                )
            ),
            ("flickr8k", "test"),
        ),
        (First(EachCaption(Tfds("flickr8k", "test")), 100), ("flickr8k", "test[:100]")),
    ],
)
def test_data_set_and_split_are_those_of_the_innermost_source(source, expected):
    assert dataset_and_split(evaluation(source)) == expected


def test_what_is_no_whole_split_is_refused():
    with pytest.raises(ValueError, match="InMemory and cannot be recorded"):
        dataset_and_split(evaluation(InMemory([])))
    with pytest.raises(ValueError, match="first 3 batches only"):
        dataset_and_split(evaluation(Tfds("flickr8k", "test"), max_batches=3))


def test_evaluations_of_one_split_share_a_file_that_the_table_reads(tmp_path, capsys):
    test = evaluation(EachCaption(Tfds("flickr8k", "test")))
    other = evaluation(Tfds("flickr8k", "validation"))
    measured = [(test, {"cider": 47.123456, "nothing": math.nan}), (other, {"cider": 46.0})]
    paths = write_results(tmp_path, RUN, [*measured, (test, {"perplexity": 12.0})])
    names = ["merge.paper.flickr8k.s2.json", "merge.paper.flickr8k-validation.s2.json"]
    assert [path.name for path in paths] == names
    result = json.loads(paths[0].read_text())
    assert result["metrics"] == {"cider": 47.123, "perplexity": 12.0}
    assert len(read_results(tmp_path)) == 2
    write_results(tmp_path, RUN, [(test, {"bleu_4": 18.0})])  # the same run: the others stay
    assert json.loads(paths[0].read_text())["metrics"].keys() == {"cider", "perplexity", "bleu_4"}
    assert capsys.readouterr().err == "test: nothing is nan and not recorded\n"
    write_results(tmp_path, {**RUN, "commit": "decade"}, [(test, {"bleu_4": 19.0})])
    assert capsys.readouterr().err == f"{paths[0]}: written anew, of another commit\n"
    assert json.loads(paths[0].read_text())["metrics"] == {"bleu_4": 19.0}


@dataclasses.dataclass
class Lines:
    path: object

    def write(self, *rows):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        self.path.write_text(text)


def test_hours_are_those_of_the_steps_that_made_the_result(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert hours_of_training(path) is None
    train = {"name": "train", "loss": 1.0}
    rows = [
        {**train, "step": 360, "steps_per_second": 1},  # 360 s
        {"name": "validation", "step": 360, "cider": 1.0},
        {**train, "step": 720, "steps_per_second": 0.2},  # 1800 s: stopped, and went on
        {"name": "validation", "step": 1008, "cider": 2.0},  # 288 steps more at 0.2: 1440 s
    ]
    Lines(path).write(rows[1])
    assert hours_of_training(path) is None
    Lines(path).write(*rows)
    assert hours_of_training(path) == 1.0
    path.write_text(path.read_text() + '{"step": 2000, "na')  # torn by a kill
    assert hours_of_training(path) == 1.0
