"""Small tokenizers as LLaVA and PaliGemma have them, and what is asked: of make_prompts.py and of the test."""

import json
from pathlib import Path

from tests.pretrained.processed import read_tokenizer
from vlm_jax.data.prompted import Prompt
from vlm_jax.pretrained import llava, paligemma

STORED = Path(__file__).parent / "prompts.json"
PLACES = 4
QUESTIONS = (
    "what color is the ball?",
    "caption en",
    "",
    " what begins with a space",
    "two  spaces, and one at the end ",
    "Où est la 猫?",
    "42 + 1 =",
)
TEMPLATES = {
    "llava": llava.TEMPLATE,
    "llava_metaspace": llava.TEMPLATE,
    "paligemma": paligemma.TEMPLATE,
}
_PAIRS = "▁ w,▁w h,h e,▁ t,▁t he,U S,E R,US ER,▁ USER,A S,S I,AS SI,i n,▁ ▁,▁ c,o l,l or,o r,▁c o"


def tokenizer(name: str) -> str:
    """A tokenizer.json: pieces of SentencePiece with bytes for what it has no letter for. Llama's has a "▁" before each stretch of
    text between special tokens, or, in files of later, before the first alone; Gemma's has none."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    gemma = name == "paligemma"
    special = ("<pad>", "<eos>", "<bos>", "<unk>") if gemma else ("<unk>", "<s>", "</s>")
    letters = [chr(i) for i in range(33, 127)] + ["▁", "\n"]
    pairs = [tuple(pair.split(" ")) for pair in _PAIRS.split(",")]
    pieces = [*special, *(f"<0x{i:02X}>" for i in range(256)), *letters]
    pieces += dict.fromkeys(a + b for a, b in pairs)
    ids = {piece: i for i, piece in enumerate(pieces)}
    found = Tokenizer(models.BPE(ids, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if gemma:
        found.normalizer = normalizers.Replace(" ", "▁")
        found.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    elif name == "llava":
        found.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        found.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement="▁", prepend_scheme="first", split=False
        )
    found.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    found.add_special_tokens([*special, "<image>"])
    return found.to_str()


def ours(name: str, questions: tuple[str, ...] = QUESTIONS) -> list[list[int]]:
    """The prompts of these questions, as ids of the file."""
    words, in_file = read_tokenizer(tokenizer(name), vocab_size=500)
    prompt = Prompt(
        tokenizer=words,
        template=TEMPLATES[name],
        length=100,
        image_token=words.encode_special("<image>")[0],
        num_images=PLACES,
    )
    asked = [{"id": 0, "question": question} for question in questions]
    return [[in_file[row] for row in prompt.ids(example)] for example in asked]


def stored() -> dict[str, list[list[int]]]:
    return json.loads(STORED.read_text())
