"""A WordNet of a dozen meanings, in the files' own format."""

from pathlib import Path

MEANINGS = {  # number -> (words, meanings above, those that it is an instance of)
    1: (("entity",), (), ()),
    2: (("object",), (1,), ()),
    3: (("furniture",), (2,), ()),
    4: (("chair", "seat"), (3,), ()),
    5: (("table",), (3,), ()),
    6: (("animal",), (2,), ()),
    7: (("dog",), (6,), ()),
    8: (("Fido",), (), (7,)),
    9: (("table", "meal"), (1,), ()),
    10: (("futon",), (1, 3), ()),
    11: (("goose",), (6,), ()),
    12: (("garbage_bin",), (2,), ()),
    13: (("island",), (), ()),
}


def write_wordnet(folder: Path) -> Path:
    licence = "  1 This software and database is being provided to you\n"
    senses, data = {}, [licence]
    for number, (words, above, instance_of) in MEANINGS.items():
        for word in words:
            senses.setdefault(word.lower(), []).append(number)
        named = " ".join(f"{word} 0" for word in words)
        pointers = [f"@ {a:08d} n 0000" for a in above] + [
            f"@i {a:08d} n 0000" for a in instance_of
        ]
        pointers += ["~ 00000001 n 0000", "+ 00000007 v 0101"]  # other relations are passed over
        head = f"{number:08d} 03 n {len(words):02x} {named}"
        data.append(f"{head} {len(pointers):03d} {' '.join(pointers)} | a gloss; @ 99 \n")
    index = [licence]
    for word, numbers in sorted(senses.items()):
        offsets = " ".join(f"{number:08d}" for number in numbers)
        index.append(f"{word} n {len(numbers)} 2 @ ~ {len(numbers)} 1 {offsets}  \n")
    (folder / "data.noun").write_text("".join(data))
    (folder / "index.noun").write_text("".join(index))
    (folder / "noun.exc").write_text("geese goose\n")
    return folder
