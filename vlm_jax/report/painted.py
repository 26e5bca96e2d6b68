"""gallery_<evaluation>.html of pictures that were made: the same prompts over the steps of training, then best and worst."""

import dataclasses
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.report.attention import printable, read_image
from vlm_jax.report.contact_sheet import in_colour
from vlm_jax.report.gallery import Item, embedded, write_gallery

MAX_STEPS = 9  # columns of the table; of more, some are left out


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaintedGallery:
    """A report for `Evaluation(reports=(PaintedGallery(source=...),))`.

    The first `count` prompts are shown with the real picture and what was made of them at every evaluation of the run,
    from workdir/pictures_<evaluation>/<step>.png, where they are kept. Below, best, worst and others at this step, what
    was made on the left, the real picture on the right, by the first number of the first of `metrics`.
    """

    source: Any
    metrics: tuple[Any, ...] = ()
    count: int = 12
    per_section: int = 12

    def __call__(
        self,
        workdir: Path,
        step: int,
        name: str,
        examples: Sequence[Mapping[str, Any]],
        numbers: Mapping[str, float],
    ) -> Path:
        references = self.source.references
        prompts = [references[example["id"]]["prompt"][0] for example in examples]
        items = []
        for example, prompt in zip(examples, prompts):
            made = in_colour(example["pictures"])[0]
            real = in_colour(example["picture"][None])[0] if "picture" in example else None
            gold = {**references[example["id"]], "picture": (example.get("picture"),)}
            scores = {}
            for metric in self.metrics:
                found = metric.result(metric.stats(example["pictures"][0], gold[metric.reference]))
                scores.update([next(iter(found.items()))])
            both = made if real is None else np.concatenate([made, real], axis=1)
            id = f"id {example['id']}"
            items.append(Item(image=both, caption=prompt, scores=scores, name=id))
        path = Path(workdir) / f"gallery_{name}.html"
        title = f"{Path(workdir).name}: {name} after {step} steps"
        before = self._over_steps(Path(workdir) / f"pictures_{name}", step, examples, prompts)
        write_gallery(path, items, title, numbers, per_section=self.per_section, before=before)
        return path

    def _over_steps(
        self, folder: Path, step: int, examples: Sequence[Mapping[str, Any]], prompts: Sequence[str]
    ) -> str:
        """The table as HTML, this step kept among the others first."""
        shown = examples[: self.count]
        if not shown:
            return ""
        _keep(folder / f"{step}.png", in_colour(np.stack([each["pictures"][0] for each in shown])))
        columns = {}
        if all("picture" in each for each in shown):
            columns["real"] = in_colour(np.stack([each["picture"] for each in shown]))
        for number in _some(sorted(int(p.stem) for p in folder.glob("*.png") if p.stem.isdigit())):
            strip = read_image(folder / f"{number}.png")
            if len(strip) % len(shown) == 0:  # of another `count` otherwise
                columns[f"{number:,}"] = strip.reshape(len(shown), -1, *strip.shape[1:])
        head = "".join(f"<th>{name}</th>" for name in columns)
        rows = "".join(
            f"<tr>{''.join(_cell(pictures[row]) for pictures in columns.values())}"
            f'<td dir="auto">{html.escape(printable(prompt, 200))}</td></tr>'
            for row, prompt in enumerate(prompts[: self.count])
        )
        return (
            f'{_STYLE}<section class="steps"><h2>Over the steps</h2><p>the first {len(shown)} prompts, the same '
            f"at each evaluation</p><table><tr>{head}<th>prompt</th></tr>{rows}</table></section>\n"
        )


def _cell(picture: np.ndarray) -> str:
    return f'<td><img src="{embedded(picture)[0]}" alt=""></td>'


def _some(steps: list[int]) -> list[int]:
    """At most MAX_STEPS of them, first and last among them."""
    if len(steps) <= MAX_STEPS:
        return steps
    return [steps[int(place)] for place in np.linspace(0, len(steps) - 1, MAX_STEPS)]


def _keep(path: Path, pictures: np.ndarray) -> None:
    """Pictures [n h w 3] one below the other, as they are."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    Image.fromarray(pictures.reshape(-1, *pictures.shape[2:])).save(part, "PNG")
    os.replace(part, path)


_STYLE = """<style>
.steps { overflow-x: auto; }
.steps td, .steps th { padding: 3px 5px; text-align: left; font-weight: 400; font-size: 14px; }
.steps th { color: var(--soft); }
.steps img { width: 96px; display: block; image-rendering: pixelated; border-radius: 4px; }
</style>
"""
