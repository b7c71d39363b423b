"""transformers' own `generate` over sorted batches: what a careful script would do.

    python bench/plain_generate.py MODEL PROMPTS.json OUTPUT.json DTYPE BATCH_SIZE

PROMPTS.json: {"prompts": [text, ...], "stop": [text, ...], "max_new_tokens": n}. OUTPUT.json gets the texts, cut at the
earliest stop, and the seconds inside `generate`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    model_name, prompts_path, output_path, dtype, size = sys.argv[1:]
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked = json.loads(Path(prompts_path).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(model_name, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(model_name, dtype=getattr(torch, dtype)).eval()
    prompts, stops = asked["prompts"], asked["stop"]
    lengths = [len(ids) for ids in tokenizer(prompts, add_special_tokens=False)["input_ids"]]
    order = sorted(range(len(prompts)), key=lambda i: -lengths[i])
    texts, tokens, begin = [""] * len(prompts), 0, time.perf_counter()
    for at in range(0, len(order), int(size)):
        batch = order[at : at + int(size)]
        inputs = tokenizer(
            [prompts[i] for i in batch], return_tensors="pt", padding=True, add_special_tokens=False
        )
        with torch.inference_mode():
            written = model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=asked["max_new_tokens"],
                stop_strings=stops,
                tokenizer=tokenizer,
                pad_token_id=tokenizer.pad_token_id,
            )
        fresh = written[:, inputs["input_ids"].shape[1] :]
        tokens += fresh.numel()
        for i, ids in zip(batch, fresh, strict=True):
            text = tokenizer.decode(ids, skip_special_tokens=True)
            cuts = [place for stop in stops if (place := text.find(stop)) >= 0]
            texts[i] = text[: min(cuts)] if cuts else text
    result = {"texts": texts, "seconds_model": time.perf_counter() - begin, "tokens_run": tokens}
    Path(output_path).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
