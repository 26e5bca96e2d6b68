"""Pictures that are read, judged and shown."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tests.invariants import painting_checks
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.commands import paint
from vlm_jax.metrics import facts_kept, frechet, nearest, prompt_holds
from vlm_jax.tasks import painting
from vlm_jax.tasks.painting import Painting
from vlm_jax.text import scene_reader

ROOM = "judged pictures"
READ = (scene_reader, "read_scene")
GOLD = (Painting, "_with_gold")


def _changed(change):
    """read_scene with its objects changed, wherever it was imported."""

    def make(*reals):
        def read_scene(picture):
            scene = reals[0](picture)
            return dataclasses.replace(scene, objects=tuple(change(scene.objects)))

        return (read_scene,) * len(reals)

    return make


def reads(name, change):
    bug(name, ROOM, READ, (prompt_holds, "read_scene"))(_changed(change))


reads("rows are taken for columns", lambda o: [dataclasses.replace(e, x=e.y, y=e.x) for e in o])
reads("objects stand in the order of their colours", lambda o: sorted(o, key=lambda e: e.color))
reads("what cannot be named is overlooked", lambda o: [e for e in o if scene_reader.UNKNOWN not in (e.shape, e.color)])  # fmt: skip
reads("every twin is seen once", lambda o: {(e.color, e.shape): e for e in o}.values())


@bug("radii of eight and nine are small", ROOM, (scene_reader, "LARGE_FROM"))
def _(real):
    return 10


@bug("a pixel is an object", ROOM, (scene_reader, "MIN_CORE"))
def _(real):
    return 1


@bug("objects that touch are one", ROOM, (scene_reader, "SEARCH"))
def _(real):
    return np.inf


@bug("any outline fits", ROOM, (scene_reader, "MAX_MISFIT"))
def _(real):
    return np.inf


@bug("any colour has a name", ROOM, (scene_reader, "WITHIN"))
def _(real):
    return np.inf


@bug("objects that were not asked for are forgiven", ROOM, (prompt_holds, "judge"))
def _(real):
    def judge(prompt, scene):
        verdict = real(prompt, scene)
        return dataclasses.replace(verdict, num_objects=verdict.mentioned)

    return judge


@bug("a picture is judged by the next prompt", ROOM, GOLD)
def _(real):
    def with_gold(self, predictions, batch, references):
        found = list(real(self, predictions, batch, references))
        gold = [g for _, g in found]
        return zip([e for e, _ in found], gold[1:] + gold[:1])

    return with_gold


@bug("only the first sample is judged", ROOM, GOLD)
def _(real):
    def with_gold(self, predictions, batch, references):
        for each, gold in real(self, predictions, batch, references):
            yield {**each, "pictures": each["pictures"][:1]}, gold

    return with_gold


@bug("rows that fill up a batch are judged", ROOM, (Painting, "examples"))
def _(real):
    def examples(self, predictions, batch):
        return real(self, predictions, {**batch, "valid": np.ones_like(batch["valid"])})

    return examples


@bug("pictures are shown on the scale of the batches", ROOM, (Painting, "shown"))
def _(real):
    return lambda self, image: jnp.clip(image, 0.0, 1.0)


@bug("bytes are cut and not rounded", ROOM, (painting, "as_bytes"))
def _(real):
    return lambda images: (255 * np.clip(images, 0, 1)).astype(np.uint8)


@bug("bytes wrap around", ROOM, (painting, "as_bytes"))
def _(real):
    return lambda images: np.round(255 * np.asarray(images)).astype(np.int32).astype(np.uint8)


@bug("all prompts of a batch are dropped, or none", ROOM, (Painting, "with_dropped_prompts"))
def _(real):
    def with_dropped_prompts(self, batch, key):
        dropped = jax.random.bernoulli(key, self.prompt_dropout)
        empty = painting.no_prompt(batch["text"])
        return {**batch, "text": jnp.where(dropped, empty, batch["text"])}

    return with_dropped_prompts


@bug("a dropped prompt is padding alone", ROOM, (painting, "no_prompt"))
def _(real):
    return jnp.zeros_like


@bug("the share is that of the first prompt", ROOM, (painting, "between"))
def _(real):
    return lambda first, second, share: real(second, first, share)


@bug("words that are not known are left out of a prompt", ROOM, (paint, "check_prompt"))
def _(real):
    def check_prompt(tokenize, prompt, where):
        known = set(tokenize.tokenizer.vocabulary)
        words = [word for word in tokenize.tokenizer.words(prompt) if word in known]
        real(tokenize, " ".join(words), where)

    return check_prompt


@bug("a prompt that is too long is cut", ROOM, (paint, "check_prompt"))
def _(real):
    def check_prompt(tokenize, prompt, where):
        words = prompt.split()[: tokenize.max_length - 2]
        real(tokenize, " ".join(words), where)

    return check_prompt


@bug("the roots of the covariances are taken apart", ROOM, (frechet, "frechet_distance"))
def _(real):
    def frechet_distance(mean, one, other_mean, two):
        cross = np.sqrt(np.maximum(np.diag(one) * np.diag(two), 0)).sum()
        away = np.square(mean - other_mean).sum()
        return away + np.trace(one) + np.trace(two) - 2 * cross

    return frechet_distance


@bug("the means are apart by their distance and not its square", ROOM, (frechet, "frechet_distance"))  # fmt: skip
def _(real):
    def frechet_distance(mean, one, other_mean, two):
        away = np.linalg.norm(mean - other_mean)
        return real(mean, one, other_mean, two) - away**2 + away

    return frechet_distance


@bug("covariances are divided by n", ROOM, (frechet, "moments"))
def _(real):
    def moments(vectors):
        mean, covariance = real(vectors)
        return mean, covariance * (len(vectors) - 1) / len(vectors)

    return moments


@bug("left and right are the same to a caption", ROOM, (facts_kept, "OPPOSITE"))
def _(real):
    return {relation: relation for relation in real}


@bug("a caption may name other objects too", ROOM, (facts_kept, "kept_facts"))
def _(real):
    def kept_facts(prompt, caption):
        first = len(prompt.mentions)
        return [way[:first] + [True] + way[first + 1 :] for way in real(prompt, caption)]

    return kept_facts


@bug("only the first training pictures are looked at", ROOM, (nearest, "nearest"))
def _(real):
    return lambda pictures, training: real(pictures, training[: nearest.AT_ONCE])


@bug("the nearest picture is that of the last part", ROOM, (nearest, "nearest"))
def _(real):
    def last(pictures, training):
        start = (len(training) - 1) // nearest.AT_ONCE * nearest.AT_ONCE
        which, far = real(pictures, training[start:])
        return which + start, far

    return last


@bug("copies are those that are farther than real pictures", ROOM, (nearest, "copies"))
def _(real):
    return lambda made, known: {**real(made, known), "copies": 100.0 * float((made > np.quantile(known, 0.01)).mean())}  # fmt: skip


ROOMS = {ROOM: Room(painting_checks.CHECKS)}
