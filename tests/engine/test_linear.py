"""Packed linear maps: the same numbers as torch's own, in the same places, and the weights back as they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.pytorch_utils import Conv1D

from lmeval.engine.linear import PackedLinear, pack_linear_maps, packed_linear

BF16, F32 = torch.bfloat16, torch.float32


def llama(**options: object) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=211,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        **options,
    )
    return LlamaForCausalLM(config).eval()


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=211, n_embd=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
    return GPT2LMHeadModel(config).eval()


def bert() -> BertForMaskedLM:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=211, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4
    )
    return BertForMaskedLM(config).eval()


@torch.inference_mode()
@pytest.mark.parametrize("rows", [(1,), (3, 5), (2, 257), (1, 0)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_a_map_gives_what_float64_gives(rows: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(96, 160, bias=bias).to(dtype)
    x = torch.randn(*rows, 96).to(dtype)
    exact = nn.functional.linear(x.double(), linear.weight.double(), linear.bias.double() if bias else None)
    found = packed_linear(linear)(x)
    assert found.dtype == dtype and found.shape == exact.shape
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-6 if dtype == F32 else 4e-2)


def test_a_view_in_any_layout_is_read_right() -> None:
    linear = nn.Linear(64, 80)
    x = torch.randn(3, 64, 7).transpose(1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(packed_linear(linear)(x), linear(x), rtol=0, atol=2e-6)


@pytest.mark.parametrize("make", [llama, gpt2, bert])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_a_whole_model_gives_the_same_logits(make: object, dtype: torch.dtype) -> None:
    ids = torch.arange(3, 60)[None]
    dense, packed = make().to(dtype), make().to(dtype)  # type: ignore[operator]
    maps = [m for m in dense.modules() if isinstance(m, (nn.Linear, Conv1D))]
    tied = {m.weight for m in dense.modules() if isinstance(m, nn.Embedding)}
    stay = sum(m.weight in tied for m in maps) if dtype == BF16 else 0
    assert pack_linear_maps(packed) == len(maps) - stay > 7
    assert sum(isinstance(m, (nn.Linear, Conv1D)) for m in packed.modules()) == stay
    with torch.inference_mode():
        expected, found = dense(input_ids=ids).logits, packed(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 if dtype == F32 else 2e-2)


def test_weights_come_back_as_they_were_and_can_be_changed() -> None:
    linear = nn.Linear(64, 80)
    packed = packed_linear(linear)
    assert torch.equal(packed.weight, linear.weight)
    packed.pack(2 * linear.weight)
    assert torch.equal(packed.weight, 2 * linear.weight)


def test_the_dense_weights_are_let_go_but_for_what_an_embedding_shares() -> None:
    model = llama(tie_word_embeddings=True)
    pack_linear_maps(model)
    assert isinstance(model.lm_head, PackedLinear)
    left = {name for name, weights in model.named_parameters() if weights.ndim > 1}
    assert left == {"model.embed_tokens.weight"}
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_in_half_precision_a_tied_head_has_no_second_copy() -> None:
    model = llama(tie_word_embeddings=True).to(BF16)
    assert pack_linear_maps(model) > 7
    assert model.lm_head.weight is model.model.embed_tokens.weight
    untied = llama(tie_word_embeddings=False).to(BF16)
    pack_linear_maps(untied)
    assert isinstance(untied.lm_head, PackedLinear)


def test_a_map_in_two_places_stays_one() -> None:
    model = nn.ModuleDict({"a": nn.Linear(64, 64), "holder": nn.ModuleDict()})
    model["holder"]["b"] = model["a"]  # type: ignore[index]
    model.dtype = F32
    assert pack_linear_maps(model) == 1
    assert model["a"] is model["holder"]["b"]  # type: ignore[index]


def test_what_is_small_derived_or_asked_for_its_dtype_stays() -> None:
    class Odd(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -super().forward(x)

    model = nn.ModuleDict({"small": nn.Linear(8, 8), "odd": Odd(64, 64), "wo": nn.Linear(64, 64)})
    model.dtype = F32
    assert pack_linear_maps(model) == 0
    assert type(model["wo"]) is nn.Linear and type(model["odd"]) is Odd


def test_half_precision_that_is_not_packed_stays() -> None:
    assert pack_linear_maps(llama().to(torch.float16)) == 0


def test_without_the_operation_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert pack_linear_maps(llama()) == 0


def test_a_packing_that_is_not_exact_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackedLinear, "forward", lambda self, x: nn.functional.linear(x, self.weight) * 1.001)
    model = llama()
    assert pack_linear_maps(model) == 0
    assert isinstance(model.lm_head, nn.Linear)
