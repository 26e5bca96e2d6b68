"""The scenes dataset says nothing but the truth, and its judge finds every lie."""

import collections
import hashlib
import io
import json
import math
import re

import numpy as np
import pytest

from vlm_jax.data.datasets.scenes_captions import NUM_CAPTIONS, captions
from vlm_jax.data.datasets.scenes_layout import HELD_OUT, SPLITS, generate
from vlm_jax.data.datasets.scenes_pictures import render
from vlm_jax.data.datasets.scenes_questions import (
    ANSWERS,
    MAX_QUESTIONS,
    QUESTION_WORDS,
    AskAnew,
    questions,
)
from vlm_jax.text.scene_judge import Scene, SceneObject, judge
from vlm_jax.text.scene_language import (
    COLORS,
    OPPOSITE,
    SHAPES,
    SIZES,
    WORDS,
    Facts,
    Mention,
    parse,
)
from vlm_jax.text.scene_shapes import CORNERS, RGB, SAMPLES, coverage

SCENES = [
    generate(0, split, index)
    for split, count in zip(SPLITS, (320, 60, 60, 60))
    for index in range(count)
]
CAPTIONS = [captions(scene, np.random.default_rng(i)) for i, scene in enumerate(SCENES)]
EVERY = [(caption, scene) for texts, scene in zip(CAPTIONS, SCENES) for caption in texts]


def thing(shape, color, size, x, y):
    return SceneObject(
        shape=shape, color=color, size=size, x=x, y=y, radius={"small": 5, "large": 10}[size]
    )


# ---- captions


def test_every_caption_is_wholly_true_of_its_scene():
    wrong = [
        (text, judge(text, scene).facts) for text, scene in EVERY if not judge(text, scene).right
    ]
    assert not wrong


def test_five_different_captions_of_words_of_the_vocabulary():
    for texts in CAPTIONS:
        assert len(set(texts)) == NUM_CAPTIONS
    used = {word for text, _ in EVERY for word in text.replace(",", "").split()}
    assert used <= set(WORDS)
    assert {"above", "below", "left", "right", "top", "bottom", "middle", "two", "three"} <= used


def test_a_caption_of_another_scene_is_rarely_right():
    order = np.random.default_rng(0).permutation(len(SCENES))
    others = [(text, SCENES[j]) for i, j in enumerate(order) if i != j for text in CAPTIONS[i]]
    assert sum(judge(text, scene).right for text, scene in others) <= 0.05 * len(others)


def test_captions_stay_true_when_every_object_moves_by_two_pixels():
    rng = np.random.default_rng(1)
    for text, scene in EVERY:
        moved = [move(each, *rng.integers(-2, 3, 2).tolist()) for each in scene.objects]
        assert judge(text, Scene(objects=tuple(moved))).right, (text, moved)


def move(each, dx, dy):
    return SceneObject(**{**vars(each), "x": each.x + dx, "y": each.y + dy})


# ---- the judge finds every corruption


def swaps(text, words, among):
    """The text with one word, at each place where one of `words` stands, replaced by another."""
    for found in re.finditer(rf"(?<!the )\b({'|'.join(words)})\b", text):
        for other in among(found[0]):
            yield text[: found.start()] + other + text[found.end() :]


def others(values):
    return lambda word: [value for value in values if value != word]


def corruptions(text, scene):
    """(kind, a caption that says something false of the scene or not everything)."""
    distinct = len({(each.color, each.shape) for each in scene.objects}) == len(scene.objects)
    counts = ("one", "two", "three", "four")
    listed, definite, rest = text.partition(", the ")
    yield from (("color", new + definite + rest) for new in swaps(listed, COLORS, others(COLORS)))
    yield from (("size", new) for new in swaps(text, SIZES, others(SIZES)))
    if not definite:
        yield from (("shape", new) for new in swaps(text, SHAPES, others(SHAPES)))
    for number in re.findall(rf"\b({'|'.join(counts)}) objects?\b", text):
        for other in others(counts)(number):
            noun = "object" if other == "one" else "objects"
            yield "total", re.sub(rf"{number} objects?", f"{other} {noun}", text)
    for found in re.finditer(r"\b(two|three|four) (?!objects)", text):
        for other in others(counts[1:])(found[1]):
            yield "count", text[: found.start()] + other + text[found.end(1) :]
    if distinct:  # of two red circles, each can be what the other was said to be
        for found in re.finditer(r"\b(above|below|left of|right of)\b", text):
            yield "relation", text[: found.start()] + OPPOSITE[found[0]] + text[found.end() :]
        before = "|".join(f"(?<={word} )" for word in ("at the", "on the", "top", "bottom"))
        for found in re.finditer(rf"(?:{before})(top|bottom|left|right)\b", text):
            yield "place", text[: found.start()] + OPPOSITE[found[0]] + text[found.end() :]


def test_every_corrupted_caption_is_caught():
    seen = collections.Counter()
    for text, scene in EVERY[::2]:
        for kind, corrupted in corruptions(text, scene):
            seen[kind] += 1
            assert corrupted != text
            assert not judge(corrupted, scene).right, (kind, text, corrupted, scene)
    kinds = ("color", "size", "shape", "total", "count", "relation", "place")
    assert min(seen[kind] for kind in kinds) >= 60, seen


def test_leaving_out_or_repeating_an_object_is_caught():
    for texts, scene in zip(CAPTIONS, SCENES):
        if len(scene.objects) < 3:
            continue
        plain = next(text for text in texts if "," in text and "which" not in text)
        first = plain.split(",")[0] if ", the " in plain else plain.rpartition(" and ")[0]
        assert not judge(first, scene).right, first
        assert not judge(f"{plain} and a red circle", scene).right


def test_the_judge_lists_each_fact_with_its_truth():
    scene = Scene(
        objects=(thing("star", "red", "small", 9, 50), thing("cross", "blue", "large", 40, 20))
    )
    verdict = judge("two objects, a large red star above a blue cross at the top left", scene)
    assert verdict.facts == (
        ("two objects", True),
        ("red star", True),
        ("red star: large", False),
        ("blue cross", True),
        ("blue cross: top", True),
        ("blue cross: left", False),
        ("red star above blue cross", False),
    )
    assert (verdict.stated, verdict.true, verdict.mentioned, verdict.num_objects) == (7, 4, 2, 2)
    assert verdict.parsed and not verdict.right


def test_equal_descriptions_are_read_in_the_readers_favour():
    scene = Scene(
        objects=(
            thing("star", "red", "small", 9, 50),
            thing("cross", "blue", "small", 25, 20),
            thing("star", "red", "large", 40, 10),
        )
    )
    assert judge("a large red star, a blue cross and a small red star", scene).right
    assert judge("a red star above a blue cross and a red star", scene).right
    assert not judge("a red star above a blue cross and a large red star", scene).right
    assert not judge(
        "from left to right, a large red star, a blue cross and a small red star", scene
    ).right
    assert judge("three red stars and a blue cross", scene).true == 3
    assert not judge("two large red stars and a blue cross", scene).right


# ---- the parser


def test_parses_written_out_by_hand():
    star, cross = Mention(shape="star", color="red"), Mention(shape="cross", color="blue")
    assert parse("a red star and a blue cross") == Facts(mentions=(star, cross))
    assert parse("A red star , a blue cross .") == Facts(mentions=(star, cross))
    assert parse("two red stars") == Facts(mentions=(star, star))
    assert parse("there are two objects, from left to right a red star and a blue cross") == Facts(
        mentions=(star, cross), relations=((0, "left of", 1),), total=2
    )
    assert parse("a red star, which is under a blue cross, left of a red star") == Facts(
        mentions=(star, cross, star), relations=((0, "below", 1), (1, "left of", 2))
    )
    assert parse("a red star and a blue cross, the star to the right of the cross") == Facts(
        mentions=(star, cross), relations=((0, "right of", 1),)
    )
    assert parse("the red star is above a small blue cross") == Facts(
        mentions=(star, Mention(shape="cross", color="blue", size="small")),
        relations=((0, "above", 1),),
    )
    assert parse("a picture of an orange star at the top left") == Facts(
        mentions=(Mention(shape="star", color="orange", place=("top", "left")),)
    )


HOSTILE = (
    *("", " ", ",", "a", "and", "a red", "red circle", "a circle red", "a red circle and", "the"),
    *("a red circle left of", "left of a red circle", "a red circle is", "two objects"),
    *("a red circle red", "a pink circle", "2 red circles", "two red circle", "a red circles"),
    *("a red circle above the red circle", "three objects, three objects, a red circle"),
    *("two red stars, the red star above a blue cross", "a red circle <eos>", "<bos>", "[PAD]"),
    *("\0", "a red circle\0", "\ud800", "a red circle \udfff", "a réd circle", "Ａ red circle"),
    *("a red circle 🟥", "a red circle\u200d", "\u202ea red circle", "null", "{}", "a " * 10_000),
    *("a red circle and " * 10_000, "nine red circles", "a red circle " * 9, "x" * 1_000_000),
)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_what_is_not_of_the_language_is_not_parsed(text):
    verdict = judge(text, SCENES[0])
    assert parse(text) is None and not verdict.parsed
    assert (verdict.stated, verdict.mentioned, verdict.right) == (0, 0, False)


def test_random_words_of_the_language_never_raise():
    rng = np.random.default_rng(2)
    parsed = 0
    for _ in range(2000):
        text = " ".join(WORDS[i] for i in rng.integers(len(WORDS), size=rng.integers(1, 12)))
        parsed += judge(text, SCENES[int(rng.integers(len(SCENES)))]).parsed
    assert parsed < 20


# ---- pictures


def test_pictures_and_texts_are_those_stored_here():
    digests = {}
    for split, index in (("train", 0), ("train", 7999), ("validation", 3), ("test_unseen", 499)):
        scene = generate(0, split, index)
        texts = (
            captions(scene, np.random.default_rng(5)),
            questions(scene, np.random.default_rng(6)),
        )
        content = scene.to_json().encode() + render(scene).tobytes() + json.dumps(texts).encode()
        digests[split, index] = hashlib.sha256(content).hexdigest()[:16]
    assert digests == {
        ("train", 0): "6a81067a79977194",
        ("train", 7999): "cae3ce320746c6b7",
        ("validation", 3): "d0cdb4aec671a78f",
        ("test_unseen", 499): "99767a09c7a257ee",
    }


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    assert generate(0, "train", 5) == generate(0, "train", 5)
    assert generate(0, "train", 5) != generate(1, "train", 5)
    with pytest.raises(ValueError, match="train, validation, test, test_unseen"):
        generate(0, "valid", 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [5, 6, 9, 10, 11])
def test_shapes_cover_the_area_that_geometry_says(shape, radius):
    if shape == "circle":
        expected = math.pi * radius**2
    else:
        x, y = np.array(CORNERS[shape]).T * radius / 100
        expected = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    mask = coverage(shape, radius)
    assert mask.sum() / SAMPLES**2 == pytest.approx(expected, rel=0.05)  # sixteen samples a pixel
    assert (mask == mask[:, ::-1]).all()  # every shape is its own mirror image
    assert not mask[0].any() and not mask[-1].any() and not mask[:, 0].any()


def test_each_object_is_painted_at_its_place_and_apart_from_the_others():
    for scene in SCENES[::5]:
        picture = render(scene).astype(int)
        assert picture.shape == (64, 64, 3)
        painted = np.zeros((128, 128), int)
        for each in scene.objects:
            assert np.abs(picture[each.y, each.x] - RGB[each.color]).max() <= 10
            mask = coverage(each.shape, each.radius)
            top, left = each.y + 32 - len(mask) // 2, each.x + 32 - len(mask) // 2
            painted[top : top + len(mask), left : left + len(mask)] += mask
        assert painted.max() <= SAMPLES**2  # no pixel twice
        background = picture[painted[32:96, 32:96] == 0]
        assert np.ptp(background, axis=1).max() <= 17 and background.min() > 150  # light and grey


# ---- splits


def test_held_out_pairs_are_in_every_unseen_picture_and_in_no_other():
    assert {color for color, _ in HELD_OUT} == set(COLORS)
    assert {shape for _, shape in HELD_OUT} == set(SHAPES)
    for split in SPLITS:
        for index in range(300):
            pairs = {(each.color, each.shape) for each in generate(0, split, index).objects}
            assert bool(pairs & set(HELD_OUT)) == (split == "test_unseen")


def test_every_other_pair_is_trained_on_and_no_scene_is_in_two_splits():
    layouts = {split: {generate(0, split, i).objects for i in range(400)} for split in SPLITS}
    pairs = {(each.color, each.shape) for objects in layouts["train"] for each in objects}
    assert len(pairs) == len(COLORS) * len(SHAPES) - len(HELD_OUT)
    seen = set()
    for split in SPLITS:
        assert len(layouts[split]) > 395
        assert not seen & layouts[split]
        seen |= layouts[split]


def test_every_number_of_objects_is_as_frequent():
    counts = collections.Counter(len(generate(0, "train", i).objects) for i in range(1000))
    assert set(counts) == {1, 2, 3, 4} and min(counts.values()) >= 200


# ---- questions


ATTRIBUTES = {"size": SIZES, "color": COLORS, "shape": SHAPES}


def found(objects, description):
    """The objects that fit words such as `small red circles`, by looking at every word."""
    fitting = []
    for each in objects:
        words = description.replace("crosses", "cross").split()
        words = [word.removesuffix("s") if word != "cross" else word for word in words]
        if all(word == "object" or word in each.values() for word in words):
            fitting.append(each)
    return fitting


def only(objects, description):
    (each,) = found(objects, description)
    return each


def answer(question, objects):
    """The answer by brute force, from the JSON truth and the words alone."""
    yes_no = {True: "yes", False: "no"}
    if match := re.fullmatch(r"(?:is there an?|are there any) (.*)", question):
        return yes_no[len(found(objects, match[1])) > 0]
    if match := re.fullmatch(r"how many (.*) are there", question):
        return ["zero", "one", "two", "three", "four"][len(found(objects, match[1]))]
    if match := re.fullmatch(r"what (\w+) is the (leftmost|rightmost) object", question):
        end = min if match[2] == "leftmost" else max
        return end(objects, key=lambda each: each["x"])[match[1]]
    if match := re.fullmatch(r"what (\w+) is the (.*)", question):
        return only(objects, match[2])[match[1]]
    if match := re.fullmatch(r"is the (.*) (left of|right of|above|below) the (.*)", question):
        a, b = only(objects, match[1]), only(objects, match[3])
        axis = "x" if match[2] in ("left of", "right of") else "y"
        assert abs(a[axis] - b[axis]) >= 7  # plain to see
        return yes_no[(a[axis] < b[axis]) == (match[2] in ("left of", "above"))]
    if match := re.fullmatch(r"are there (more|fewer) (.*) than (.*)", question):
        a, b = len(found(objects, match[2])), len(found(objects, match[3]))
        return yes_no[a > b if match[1] == "more" else a < b]
    match = re.fullmatch(r"is the (.*) the same (\w+) as the (.*)", question)
    a, b = only(objects, match[1]), only(objects, match[3])
    assert a is not b
    return yes_no[a[match[2]] == b[match[2]]]


def test_every_answer_is_what_brute_force_finds():
    answers = collections.defaultdict(collections.Counter)
    for i, scene in enumerate(SCENES):
        objects = json.loads(scene.to_json())["objects"]
        asked = questions(scene, np.random.default_rng(i))
        assert 5 <= len(asked) <= MAX_QUESTIONS
        assert len({question.text for question in asked}) == len(asked)
        for question in asked:
            assert question.answer == answer(question.text, objects), (question, objects)
            assert set(question.text.split()) <= set(QUESTION_WORDS)
            assert question.answer in ANSWERS
            answers[question.type][question.answer] += 1
    for kind in ("existence", "relation", "comparison"):
        assert set(answers[kind]) == {"yes", "no"}
        assert 0.42 <= answers[kind]["yes"] / sum(answers[kind].values()) <= 0.58, answers[kind]
    assert set(answers["count"]) == {"zero", "one", "two", "three", "four"}
    for kind, values in ATTRIBUTES.items():
        assert set(answers[kind]) == set(values)


def test_held_out_pairs_are_not_asked_for_where_they_are_not():
    for i, scene in enumerate(SCENES):
        there = {(each.color, each.shape) for each in scene.objects}
        text = " . ".join(question.text for question in questions(scene, np.random.default_rng(i)))
        for color, shape in set(HELD_OUT) - there:
            assert f"{color} {shape}" not in text


def test_other_questions_about_the_same_picture_are_answered_as_brute_force_does():
    scene = SCENES[1].to_json()
    stored = {"id": 7, "scene": scene, "question": "is there a star", "answer": "maybe"}
    drawn = [AskAnew()(stored, np.random.default_rng(seed)) for seed in range(60)]
    for example in drawn:
        assert example["answer"] == answer(example["question"], json.loads(scene)["objects"])
        assert example["id"] == 7 and example["scene"] == scene
    assert len({example["question"] for example in drawn}) > 30
    assert {example["question_type"] for example in drawn} >= {"existence", "count", "comparison"}
    assert AskAnew()(stored, np.random.default_rng(3)) == drawn[3]


def test_a_type_may_be_asked_for_more_often():
    """Of three unlike objects every question can be asked."""
    scene = next(
        scene
        for scene in SCENES
        if len({(each.color, each.shape) for each in scene.objects}) == len(scene.objects) == 3
    )
    stored = {"scene": scene.to_json(), "question": "", "answer": "", "question_type": ""}
    shares = AskAnew(shares=(("relation", 0.5), ("comparison", 0.25)))
    kinds = [shares(stored, np.random.default_rng(seed))["question_type"] for seed in range(200)]
    assert 79 < kinds.count("relation") < 130 and 32 < kinds.count("comparison") < 80
    assert len(set(kinds)) > 4
    with pytest.raises(ValueError, match="expected types among existence"):
        AskAnew(shares=(("relations", 0.5),))
    with pytest.raises(ValueError, match="at most 1"):
        AskAnew(shares=(("relation", 0.9), ("count", 0.2)))


def test_a_listing_names_every_object_and_where_it_is():
    """Read back word by word, it is the scene to a fifth of the picture's side."""
    listed = AskAnew(shares=(("listing", 1.0),))
    for scene in SCENES:
        example = listed({"id": 1, "scene": scene.to_json()}, np.random.default_rng(0))
        assert example["question"] == "what is in the picture"
        assert example["question_type"] == "listing"
        told = [each.split() for each in example["answer"].split(" and ")]
        assert len(told) == len(scene.objects)
        for words, each in zip(told, sorted(scene.objects, key=lambda each: each.x)):
            size, color, shape, *place = words
            assert (size, color, shape) == (each.size, each.color, each.shape)
            column, row = (("zero", "one", "two", "three", "four").index(word) for word in place)
            assert 12.8 * column <= each.x < 12.8 * (column + 1)
            assert 12.8 * row <= each.y < 12.8 * (row + 1)
    kinds = {
        AskAnew()({"scene": SCENES[0].to_json()}, np.random.default_rng(i))["question_type"]
        for i in range(50)
    }
    assert "listing" not in kinds


# ---- the prepared records


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    from vlm_jax.data.source import Tfds

    folder = str(tmp_path_factory.mktemp("tfds"))
    return {split: Tfds("scenes", split, config="tiny", data_dir=folder) for split in SPLITS}


def test_the_records_are_the_generated_examples(prepared):
    from PIL import Image

    assert [len(prepared[split]) for split in SPLITS] == [64, 16, 32, 16]
    for split in SPLITS:
        for index in (0, 11):
            example = prepared[split][index]
            scene = generate(0, split, index)
            assert Scene.from_json(example["scene"]) == scene
            assert (np.asarray(Image.open(io.BytesIO(example["image"]))) == render(scene)).all()
            assert len(example["captions"]) == NUM_CAPTIONS
            assert all(judge(caption, scene).right for caption in example["captions"])
            objects = json.loads(example["scene"])["objects"]
            assert example["answers"] == tuple(answer(q, objects) for q in example["questions"])
            assert len(example["question_types"]) == len(example["questions"])
            leftmost = scene.objects[0]
            assert example["label"] == len(scene.objects) - 1
            assert SHAPES[example["leftmost_shape"]] == leftmost.shape
            assert COLORS[example["leftmost_color"]] == leftmost.color
            assert SIZES[example["leftmost_size"]] == leftmost.size


def test_ids_are_one_a_picture_over_all_splits_and_lead_to_the_texts(prepared):
    ids = [id for split in SPLITS for id in prepared[split].references]
    assert len(ids) == len(set(ids)) == 64 + 16 + 32 + 16
    example = prepared["test"][5]
    texts = prepared["test"].references[int(example["id"])]
    assert texts["captions"] == example["captions"] and texts["scene"] == (example["scene"],)
