"""The least work of a set of requests, against a count by hand and torch's own counter."""

from __future__ import annotations

import json
from pathlib import Path

from bench.flops import LeastWork, Shape, least_work


def test_least_work_counts_each_prefix_once() -> None:
    requests = [([1, 2], [3]), ([1, 2], [4, 5]), ([1, 2], [6])]
    # Inputs 1 2 | 1 2 4 | 1 2: prefixes 1, 12, 124 of depths 1, 2, 3; scored after 12 (three times) and 124.
    assert least_work(requests) == LeastWork(
        tokens_requested=7, tokens_distinct=3, keys_attended=6, positions_scored=2
    )


def test_flops_agree_with_torchs_counter(tmp_path: Path) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    tokens = 10
    # On a CPU the counter sees no attention but this.
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.arange(tokens)[None])
    # The counter takes attention as a full square, and every position has its logits here.
    square = LeastWork(tokens, tokens, keys_attended=tokens * tokens, positions_scored=tokens)
    assert square.flops(Shape.of(tmp_path)) == counter.get_total_flops()
