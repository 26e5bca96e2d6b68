"""The verb `search`: the pictures nearest to a text, by a trained two-tower model.

    python -m experiments.clip search "a dog runs on grass" "a red car" --workdir runs/clip [--only test] [--json]

They are printed, and shown in search.html of the workdir.
"""

import json
import sys
from typing import Any

from vlm_jax.commands.command import Command, UserError
from vlm_jax.commands.given import texts_of
from vlm_jax.commands.workdirs import trained

NEAREST = 12  # pictures shown of each search


def search(command: Command) -> None:
    """Prints the pictures of a split nearest to each text, and writes them into workdir/search.html."""
    from vlm_jax.commands.two_towers import Towers
    from vlm_jax.report.gallery import pictures_by_id
    from vlm_jax.report.search import write_search

    texts = texts_of(command)
    if not texts or not all(text.strip() for text in texts):
        raise UserError("search needs texts: search 'a dog runs' 'a red car' --workdir DIR")
    experiment, workdir = trained(command)
    towers = Towers.of(experiment, workdir, command.options.get("step"))
    for text in texts:
        towers.check_words(text)
    evaluation = towers.searched(command.options.get("only"))
    source = pictures_by_id(evaluation.data).source
    ids, pictures = towers.of_pictures(source)
    scores = towers.of_texts(texts) @ pictures.T  # [queries pictures]
    picture = pictures_by_id(source)
    found = []
    for query, row in zip(texts, scores):
        nearest = (-row).argsort(kind="stable")[:NEAREST]
        hits = [_hit(source, picture, ids[index], float(row[index])) for index in nearest]
        found.append(hits)
        if "json" in command.options:
            known = [{"id": hit.id, "name": hit.name, "cosine": hit.score} for hit in hits]
            print(json.dumps({"text": query, "pictures": known}, ensure_ascii=False))
        else:
            print(query)
            for hit in hits:
                print(f"  {hit.score:.3f}\t{hit.name}\t{(*hit.references, '')[0]}")
    path = workdir / "search.html"
    title = f"{workdir.name}: search in {evaluation.name}"
    write_search(path, texts, found, title, len(ids))
    print(f"wrote {path}", file=sys.stderr)


def _hit(source: Any, picture: Any, id: int, score: float) -> Any:
    from vlm_jax.report.search import Hit

    texts = source.references[id]
    return Hit(
        id=id,
        image=picture(id),
        score=score,
        name=(*texts.get("image_name", ()), f"id {id}")[0],
        references=texts.get("captions", ()),
    )
