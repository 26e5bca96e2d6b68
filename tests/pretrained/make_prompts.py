"""Writes tests/pretrained/prompts.json: the tokens that transformers' processors of LLaVA and PaliGemma make of questions.

    python -m tests.pretrained.make_prompts

Run by hand, with a Python that has torch and transformers beside this package.
"""

import json
import sys

import numpy as np

from tests.pretrained import prompted


def main() -> int:
    import transformers
    from tokenizers import Tokenizer, processors

    picture = np.zeros((8, 8, 3), np.uint8)
    found = {}
    for name in prompted.TEMPLATES:
        rust = Tokenizer.from_str(prompted.tokenizer(name))
        if name == "paligemma":
            words = transformers.PreTrainedTokenizerFast(
                tokenizer_object=rust,
                bos_token="<bos>",
                eos_token="<eos>",
                unk_token="<unk>",
                pad_token="<pad>",
            )
            pictures = transformers.SiglipImageProcessorPil(size={"height": 8, "width": 8})
            pictures.image_seq_length = prompted.PLACES
            whole = transformers.PaliGemmaProcessor(pictures, words)
            form = "{}"
        else:
            begin = ("<s>", rust.token_to_id("<s>"))
            rust.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [begin])
            words = transformers.PreTrainedTokenizerFast(
                tokenizer_object=rust, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
            )
            size = {"height": 8, "width": 8}
            pictures = transformers.CLIPImageProcessorPil(size=size, crop_size=size)
            whole = transformers.LlavaProcessor(
                pictures,
                words,
                patch_size=4,
                vision_feature_select_strategy="default",
                num_additional_image_tokens=1,
            )
            form = "USER: <image>\n{} ASSISTANT:"
        made = [
            whole(images=picture, text=form.format(question)).input_ids
            for question in prompted.QUESTIONS
        ]
        found[name] = [np.ravel(ids).tolist() for ids in made]
    prompted.STORED.write_text(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
