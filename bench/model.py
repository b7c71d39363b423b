"""The folder of weights that both harnesses load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def model_folder(model: str, cache: Path) -> Path:
    """The folder for a model: itself, a .gguf file dequantized once, or `random-1b` made once.

    Raises:
        SystemExit: Where there is no such file or folder.
    """
    if model == "random-1b":
        return _once(cache / model, _write_random_1b)
    path = Path(model).expanduser()
    if model and path.is_dir():
        return path
    if not path.is_file():
        raise SystemExit(
            f"no model at {model!r}: give --model, or set LMEVAL_TEST_MODEL to a .gguf file or a folder"
        )
    return _once(cache / path.stem, lambda folder: _dequantize(path, folder))


def _once(folder: Path, write: Callable[[Path], None]) -> Path:
    if not (folder / "config.json").is_file():
        part = folder.with_name(folder.name + ".part")
        write(part)
        part.rename(folder)
    return folder


def _dequantize(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    parent, name = str(gguf.parent), gguf.name
    read = AutoModelForCausalLM.from_pretrained(parent, gguf_file=name, dtype=torch.float32)
    # A model that came from a .gguf file refuses to be saved, so its weights move to one that did not.
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(parent, gguf_file=name))
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(parent, gguf_file=name).save_pretrained(folder)


def _write_random_1b(folder: Path) -> None:
    """A Llama shape of about 1.1 billion parameters, for a GPU; the tokenizer is that of the small model."""
    import os

    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    small = model_folder(os.environ.get("LMEVAL_TEST_MODEL", ""), folder.parent)
    tokenizer = AutoTokenizer.from_pretrained(small)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    model.bfloat16()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
