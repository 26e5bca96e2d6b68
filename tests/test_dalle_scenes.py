"""experiments/image_tokenizer.py and dalle_scenes.py: as many codes as named, in all that knows their number."""

import numpy as np
import pytest

from experiments import dalle_scenes, image_tokenizer
from vlm_jax.commands.command import UserError
from vlm_jax.commands.workdirs import variables_of
from vlm_jax.main import main
from vlm_jax.metrics.code_use import CodeUse
from vlm_jax.text.scene_plan import ScenePlan
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.state import named_leaves
from vlm_jax.types import NUM_SPECIAL


def test_levels_reach_the_metric_of_the_image_tokenizer():
    experiment = image_tokenizer.fsq("8,5,5,5")
    assert experiment.model.quantiser.num_codes == 1000
    (use,) = (m for m in experiment.task.metrics if isinstance(m, CodeUse))
    assert use.num_codes == 1000


@pytest.mark.parametrize(
    "function", ["transformer", "columns", "planned", "lstm", "maskgit", "maskgit_planned"]
)
def test_levels_reach_the_decoder_and_its_targets(function, monkeypatch):
    monkeypatch.setattr(dalle_scenes, "encoded_scenes", lambda *_, **__: [])
    monkeypatch.setattr(dalle_scenes, "EachCaption", lambda source: source)
    experiment = getattr(dalle_scenes, function)(levels="8,8,8")
    planned = ScenePlan().vocab_size if "planned" in function else 0
    assert experiment.model.decoder.vocab_size == 512 + NUM_SPECIAL + planned
    assert experiment.model.image_tokenizer.quantiser.levels == (8, 8, 8)
    assert experiment.train_data.transforms[0].num_codes == 512


def test_levels_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="--levels: given 8,x, expected whole numbers such as 8,8"):
        image_tokenizer.fsq("8,x")


def test_the_vectors_of_a_vqvae_are_written_and_painted(tmp_path, capsys):
    """From a run of `vqvae` on: its codebook and what paints with it stay as they are, and pictures are made of them."""
    codec, run = tmp_path / "vqvae", tmp_path / "dalle"
    assert main(image_tokenizer.smoke, argv=["train", "--workdir", str(codec)]) == 0

    def written() -> Experiment:
        return dalle_scenes.smoke(tokenizer=str(codec), levels="vectors")

    assert main(written, argv=["train", "--workdir", str(run)]) == 0
    before, _ = variables_of(codec, None)
    after, _ = variables_of(run, None)
    new = named_leaves(
        {kind: tree["image_tokenizer"] for kind, tree in after.items() if "image_tokenizer" in tree}
    )
    old = named_leaves(before)
    assert any("decoder" in name for name in new) and any("codebook" in name for name in new)
    for name, leaf in new.items():
        np.testing.assert_array_equal(leaf, old[name], err_msg=name)
    capsys.readouterr()
    argv = ["predict", "--prompt", "a red circle", "--count", "2", "--workdir", str(run)]
    assert main(written, argv=argv) == 0
    assert "wrote" in capsys.readouterr().out
