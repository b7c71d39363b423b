"""Folders of models that are damaged, do not belong together, or bring code: a function each."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

WEIGHTS, CONFIG, INDEX = "model.safetensors", "config.json", "model.safetensors.index.json"
POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"
)
Damage = Callable[[Path], object]


def change(name: str, **values: Any) -> Damage:
    """Change keys of a JSON file."""

    def damage(folder: Path) -> None:
        file = folder / name
        known = json.loads(file.read_text()) if file.is_file() else {}
        file.write_text(json.dumps(known | values))

    return damage


def write(name: str, content: str | bytes) -> Damage:
    """Put something else into a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def weights(edit: Callable[[bytes], bytes]) -> Damage:
    """Change the weight file's bytes."""
    return lambda folder: (folder / WEIGHTS).write_bytes(edit((folder / WEIGHTS).read_bytes()))


def header(edit: Callable[[dict[str, Any]], object]) -> Damage:
    """Change the first tensor's entry in the weight file's header."""

    def damage(content: bytes) -> bytes:
        (length,) = struct.unpack("<Q", content[:8])
        entries = json.loads(content[8 : 8 + length])
        edit(entries[next(name for name in entries if name != "__metadata__")])
        text = json.dumps(entries).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return weights(damage)


def index(shard: str | None, target: str, **values: Any) -> Damage:
    """Put an index in place of the weight file, which moves to `target`; the index names `shard` beside."""

    def damage(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / target)
        shards = {"a": target} | ({"b": shard} if shard else {})
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": shards} | values))

    return damage


def vocabulary(edit: Callable[[dict[str, int]], dict[str, int]]) -> Damage:
    """Change the tokenizer's vocabulary."""

    def damage(folder: Path) -> None:
        file = folder / "tokenizer.json"
        content = json.loads(file.read_text())
        content["model"]["vocab"] = edit(content["model"]["vocab"])
        content["model"]["merges"] = []
        file.write_text(json.dumps(content))

    return damage


def without(*names: str) -> Damage:
    """Remove files."""
    return lambda folder: [(folder / name).unlink() for name in names]


def pickled(folder: Path) -> None:
    """The weights as a pickle, in place of safetensors."""
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def evil_pickles(marker: Path) -> dict[str, bytes]:
    """Pickles that make a file when they are opened without care: bare, and in torch's archive."""
    import io

    import torch

    archive = io.BytesIO()
    torch.save({"weight": Evil(marker)}, archive)
    return {"bare": pickle.dumps(Evil(marker), protocol=2), "archive": archive.getvalue()}


# What is done to a small causal model's folder -> what the one message says of it
DAMAGES: dict[str, tuple[Damage, str]] = {
    "weights cut": (weights(lambda b: b[:-1000]), r"model\.safetensors is cut off: it has .* and its tensors end"),
    "header cut": (weights(lambda b: b[:200]), r"model\.safetensors is cut off: .* its header alone"),
    "weights empty": (write(WEIGHTS, ""), r"model\.safetensors is empty"),
    "weights a pointer": (write(WEIGHTS, POINTER), r"placeholder of Git LFS(.|\n)*git lfs pull"),
    "weights a page": (write(WEIGHTS, "<!DOCTYPE html><html>"), r"is a web page, not weights"),
    "header of 2**63 bytes": (weights(lambda b: struct.pack("<Q", 2**63) + b[8:]), r"its header would be 9,223,372"),
    "header of 400 MB": (weights(lambda b: struct.pack("<Q", 4 * 10**8) + b[8:]), r"its header would be 400,000,000"),
    "header garbage": (weights(lambda b: b[:20] + b"\xff" * 40 + b[60:]), r"does not say where its tensors are"),
    "absurd shape": (header(lambda e: e.update(shape=[10**12, 10**6])), r"weights of .* do not load"),
    "tensor beyond the file": (header(lambda e: e.update(data_offsets=[0, 10**15])), r"is cut off"),
    "tensor before the file": (header(lambda e: e.update(data_offsets=[-5, -1])), r"weights of .* do not load"),
    "no weights": (without(WEIGHTS), r"holds no model\.safetensors"),
    "a shard missing": (index("model-2.safetensors", "model-1.safetensors"), r"lacks 1 of the 2 files.*model-2\.safe"),
    "a shard elsewhere": (index("../other.safetensors", "model-1.safetensors"), r'names "\.\./other\.safetensors"'),
    "a shard that is a pickle": (index("x.bin", "model-1.safetensors"), r'names "x\.bin"'),
    "index without metadata": (index(None, "m.safetensors", metadata=None), r"index\.json has no metadata"),
    "index without a map": (index(None, "m.safetensors", weight_map=[]), r"has no weight_map"),
    "other shapes": (change(CONFIG, n_embd=64), r"wte\.weight is \d+x32 in the file, and by config\.json .* \d+x64"),
    "fewer layers": (change(CONFIG, n_layer=1), r"says 1 layers, and its weights have more"),
    "more layers": (change(CONFIG, n_layer=9), r"lack \d+ tensors"),
    "config empty": (write(CONFIG, ""), r"config\.json is empty"),
    "config a pointer": (write(CONFIG, POINTER), r"config\.json is a placeholder of Git LFS"),
    "config no JSON": (write(CONFIG, "{"), r"config\.json is no JSON: .*line 1"),
    "config no text": (write(CONFIG, b"\xff\xfe\x00{"), r"config\.json is no JSON"),
    "config a list": (write(CONFIG, "[1]"), r"config\.json holds no JSON object"),
    "config nested": (write(CONFIG, "[" * 100_000), r"config\.json is nested too deeply"),
    "a number of 5,000 digits": (write(CONFIG, '{"vocab_size": ' + "9" * 5000 + "}"), r"config\.json is no JSON"),
    "unknown type": (change(CONFIG, model_type="frobnicator"), r'model type "frobnicator", which transformers'),
    "no type": (change(CONFIG, model_type=None), r"names no model_type"),
    "type a list": (change(CONFIG, model_type=["gpt2"]), r"does not know"),
    "architectures no names": (change(CONFIG, architectures=[5]), r'"architectures" as \[5\]'),
    "a model of images": (change(CONFIG, model_type="vit", architectures=None), r"is of type vit"),
    "10**12 tokens": (change(CONFIG, vocab_size=10**12), r'gives "vocab_size" as 1,000,000,000,000'),
    "10**8 tokens": (change(CONFIG, vocab_size=10**8), r"says 100,000,000 tokens.*do not belong together"),
    "10**9 layers": (change(CONFIG, n_layer=10**9), r'gives "n_layer" as 1,000,000,000'),
    "9,999 layers": (change(CONFIG, n_layer=9999), r"says 9,999 layers"),
    "-1 layers": (change(CONFIG, n_layer=-1), r'gives "n_layer" as -1'),
    "10**9 labels": (change(CONFIG, num_labels=10**9), r'gives "num_labels" as'),
    "many layers": (change(CONFIG, n_layer="many"), r"config\.json does not load: .*n_layer"),
    "no such number format": (change(CONFIG, dtype="float3"), r"config\.json does not load"),
    "no such function": (change(CONFIG, activation_function="os.system"), r"do not load: KeyError 'os\.system'"),
    "kernels of others": (change(CONFIG, attn_implementation="kernels-community/x"), r"do not load"),
    "weights of others": (change(CONFIG, transformers_weights="../x.safetensors"), r"transformers_weights"),
    "an adapter's folder": (write("adapter_config.json", '{"peft_type": "LORA"}'), r"adapter_config\.json beside"),
    "generation no JSON": (write("generation_config.json", "{"), r"generation_config\.json is no JSON"),
    "end no token": (change("generation_config.json", eos_token_id="x"), r'"eos_token_id" as x'),
    "generation nonsense": (change("generation_config.json", watermarking_config={"a": 1}), r"json does not load"),
    "tokenizer missing": (without("tokenizer.json", "tokenizer_config.json"), r"tokenizer of .* does not load"),
    "tokenizer cut": (write("tokenizer.json", '{"version": "1.0", "model'), r"tokenizer of .* does not load"),
    "tokenizer a pointer": (write("tokenizer.json", POINTER), r"tokenizer\.json is a placeholder"),
    "tokenizer nested": (write("tokenizer.json", "[" * 100_000), r"tokenizer of .* does not load"),
    "tokenizer's settings": (write("tokenizer_config.json", "{"), r"tokenizer_config\.json is no JSON"),
    "far more tokens": (vocabulary(lambda v: v | {f"zz{i}": len(v) + i for i in range(900)}), r"is another model's"),
    "far fewer tokens": (vocabulary(lambda v: {k: i for k, i in v.items() if i < 20}), r"or not whole"),
}  # fmt: skip
