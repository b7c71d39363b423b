"""Tiny random models, one of each shape, with weights large enough that their logits are far from uniform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from transformers.pytorch_utils import Conv1D

from lmeval.engine.causal import CausalEngine
from lmeval.engine.encoder_decoder import EncoderDecoder
from lmeval.engine.masked import MaskedEngine
from lmeval.engine.network import Network
from lmeval.engine.seq2seq import Seq2SeqEngine
from lmeval.engine.tokenization import TextEncoder
from lmeval.records import ModelRecord
from tests.engine import small_tokenizers

WINDOW = 128  # positions that the shapes have
LLAMA_LIKE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": WINDOW,
}
GEMMA_LIKE = LLAMA_LIKE | {"head_dim": 8}
BERT_LIKE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": WINDOW,
}
NO_IDS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}

CAUSAL: dict[str, Callable[[int], Any]] = {
    "gpt2": lambda v: hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=v,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=WINDOW,
            bos_token_id=None,
            eos_token_id=None,
        )
    ),
    "llama": lambda v: hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=v, **LLAMA_LIKE, **NO_IDS)),
    "gpt_neox": lambda v: hf.GPTNeoXForCausalLM(
        hf.GPTNeoXConfig(vocab_size=v, **BERT_LIKE, bos_token_id=None, eos_token_id=None)
    ),
    "opt": lambda v: hf.OPTForCausalLM(
        hf.OPTConfig(
            vocab_size=v,
            hidden_size=32,
            word_embed_proj_dim=32,
            ffn_dim=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=WINDOW,
            **NO_IDS,
        )
    ),
    "qwen2": lambda v: hf.Qwen2ForCausalLM(hf.Qwen2Config(vocab_size=v, **LLAMA_LIKE, **NO_IDS)),
    "gemma2": lambda v: hf.Gemma2ForCausalLM(hf.Gemma2Config(vocab_size=v, **GEMMA_LIKE, **NO_IDS)),
    "gemma3": lambda v: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(vocab_size=v, **GEMMA_LIKE, **NO_IDS)),
    "phi3": lambda v: hf.Phi3ForCausalLM(
        hf.Phi3Config(vocab_size=v, **LLAMA_LIKE, original_max_position_embeddings=WINDOW, **NO_IDS)
    ),
    "mistral": lambda v: hf.MistralForCausalLM(
        hf.MistralConfig(vocab_size=v, **LLAMA_LIKE, sliding_window=None, **NO_IDS)
    ),
    "mistral_sliding": lambda v: hf.MistralForCausalLM(
        hf.MistralConfig(vocab_size=v, **LLAMA_LIKE, sliding_window=8, **NO_IDS)
    ),
    "bloom": lambda v: hf.BloomForCausalLM(
        hf.BloomConfig(vocab_size=v, hidden_size=32, n_layer=2, n_head=4, **NO_IDS)
    ),
    "gpt_neo": lambda v: hf.GPTNeoForCausalLM(
        hf.GPTNeoConfig(
            vocab_size=v,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=8,
            max_position_embeddings=WINDOW,
            bos_token_id=None,
            eos_token_id=None,
        )
    ),
    "mamba": lambda v: hf.MambaForCausalLM(
        hf.MambaConfig(vocab_size=v, hidden_size=32, state_size=8, num_hidden_layers=2, **NO_IDS)
    ),
}
PLAIN = ("mistral_sliding", "bloom", "gpt_neo", "mamba")

MASKED: dict[str, Callable[[int], Any]] = {
    "bert": lambda v: hf.BertForMaskedLM(hf.BertConfig(vocab_size=v, **BERT_LIKE)),
    "roberta": lambda v: hf.RobertaForMaskedLM(hf.RobertaConfig(vocab_size=v, **BERT_LIKE, pad_token_id=1)),
    "distilbert": lambda v: hf.DistilBertForMaskedLM(
        hf.DistilBertConfig(
            vocab_size=v, dim=32, hidden_dim=48, n_layers=2, n_heads=4, max_position_embeddings=WINDOW
        )
    ),
    "albert": lambda v: hf.AlbertForMaskedLM(hf.AlbertConfig(vocab_size=v, **BERT_LIKE, embedding_size=16)),
    "xlm_roberta": lambda v: hf.XLMRobertaForMaskedLM(
        hf.XLMRobertaConfig(vocab_size=v, **BERT_LIKE, pad_token_id=1)
    ),
    "electra": lambda v: hf.ElectraForMaskedLM(
        hf.ElectraConfig(vocab_size=v, **BERT_LIKE, embedding_size=16)
    ),
}

BART_LIKE: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": WINDOW,
}
T5_LIKE: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}

# an encoder-decoder's tokenizer, and the model for it
SEQ2SEQ: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "t5": (
        small_tokenizers.t5,
        lambda t: hf.T5ForConditionalGeneration(
            hf.T5Config(vocab_size=len(t), **T5_LIKE, decoder_start_token_id=t.pad_token_id, **_ids(t))
        ),
    ),
    "t5_v1_1": (
        small_tokenizers.t5,
        lambda t: hf.T5ForConditionalGeneration(
            hf.T5Config(
                vocab_size=len(t),
                **T5_LIKE,
                feed_forward_proj="gated-gelu",
                tie_word_embeddings=False,
                decoder_start_token_id=t.pad_token_id,
                **_ids(t),
            )
        ),
    ),
    "bart": (
        small_tokenizers.roberta,
        lambda t: hf.BartForConditionalGeneration(
            hf.BartConfig(
                vocab_size=len(t),
                **BART_LIKE,
                bos_token_id=t.bos_token_id,
                decoder_start_token_id=t.eos_token_id,
                **_ids(t),
            )
        ),
    ),
    "marian": (
        small_tokenizers.t5,
        lambda t: hf.MarianMTModel(
            hf.MarianConfig(
                vocab_size=len(t),
                decoder_vocab_size=len(t),
                **BART_LIKE,
                decoder_start_token_id=t.pad_token_id,
                **_ids(t),
            )
        ),
    ),
    "mbart": (
        lambda: small_tokenizers.mbart(src_lang="en_XX", tgt_lang="de_DE"),
        lambda t: hf.MBartForConditionalGeneration(
            hf.MBartConfig(
                vocab_size=len(t),
                **BART_LIKE,
                bos_token_id=t.bos_token_id,
                decoder_start_token_id=t.convert_tokens_to_ids("de_DE"),
                **_ids(t),
            )
        ),
    ),
    "mbart50": (
        lambda: small_tokenizers.mbart50(src_lang="en_XX", tgt_lang="de_DE"),
        lambda t: hf.MBartForConditionalGeneration(
            hf.MBartConfig(
                vocab_size=len(t),
                **BART_LIKE,
                bos_token_id=t.bos_token_id,
                decoder_start_token_id=t.eos_token_id,
                **_ids(t),
            )
        ),
    ),
    "nllb": (
        lambda: small_tokenizers.nllb(src_lang="eng_Latn", tgt_lang="deu_Latn"),
        lambda t: hf.M2M100ForConditionalGeneration(
            hf.M2M100Config(
                vocab_size=len(t),
                **BART_LIKE,
                bos_token_id=t.bos_token_id,
                decoder_start_token_id=t.eos_token_id,
                **_ids(t),
            )
        ),
    ),
}


def _ids(tokenizer: Any) -> dict[str, int]:
    return {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}


def scale_up(model: Any, seed: int = 0, head: float = 0.6) -> Any:
    """The model with larger random weights, ready to score; `head` is the scale of embeddings and head."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | Conv1D):
                module.weight.normal_(0.0, 0.25, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0.0, 0.1, generator=generator)
        for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
            embedding.weight.normal_(0.0, head, generator=generator)
    return model.eval()


def causal_model(shape: str, vocabulary: int, seed: int = 0) -> Any:
    """A random causal model of a shape in CAUSAL."""
    with torch.random.fork_rng():
        torch.manual_seed(
            seed
        )  # of what is neither map nor embedding: position embeddings, Mamba's convolutions
        return scale_up(CAUSAL[shape](vocabulary), seed)


def masked_model(shape: str, vocabulary: int, seed: int = 0) -> Any:
    """A random masked model of a shape in MASKED."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # of position embeddings
        return scale_up(MASKED[shape](vocabulary), seed, head=0.4)


def seq2seq_model(shape: str, tokenizer: Any, seed: int = 0) -> Any:
    """A random encoder-decoder of a shape in SEQ2SEQ, its generation configuration as one that was loaded."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # of position embeddings
        model = scale_up(SEQ2SEQ[shape][1](tokenizer), seed, head=1.0 if shape == "t5" else 0.4)
    generation = model.generation_config
    generation.forced_bos_token_id = {
        "bart": tokenizer.bos_token_id,
        "mbart50": tokenizer.convert_tokens_to_ids("de_DE"),
        "nllb": tokenizer.convert_tokens_to_ids("deu_Latn"),
    }.get(shape)
    if shape in ("bart", "marian", "mbart"):
        generation.forced_eos_token_id = tokenizer.eos_token_id
    for module in model.modules():
        if hasattr(module, "relative_attention_bias"):
            with torch.no_grad():
                module.relative_attention_bias.weight.normal_(
                    0.0, 1.0, generator=torch.Generator().manual_seed(seed)
                )
    return model


def causal_engine(
    model: Any, tokenizer: Any, *, max_length: int = WINDOW, batch_tokens: int = 64
) -> CausalEngine:
    """The engine of a causal model, as `load_engine` makes it."""
    return CausalEngine(
        Network(model),
        TextEncoder(tokenizer, "tiny"),
        _record(model, "causal"),
        max_length=max_length,
        batch_tokens=batch_tokens,
    )


def masked_engine(
    model: Any,
    tokenizer: Any,
    *,
    max_length: int = WINDOW,
    batch_tokens: int = 256,
    variant: str | None = None,
) -> MaskedEngine:
    """The engine of a masked model, as `load_engine` makes it."""
    return MaskedEngine(
        Network(model),
        TextEncoder(tokenizer, "tiny"),
        _record(model, "masked", variant),
        max_length=max_length,
        batch_tokens=batch_tokens,
    )


def seq2seq_engine(
    model: Any,
    tokenizer: Any,
    *,
    max_length: int = WINDOW,
    target_length: int = WINDOW,
    batch_tokens: int = 64,
) -> Seq2SeqEngine:
    """The engine of an encoder-decoder, as `load_engine` makes it."""
    return Seq2SeqEngine(
        EncoderDecoder(model),
        TextEncoder(tokenizer, "tiny"),
        _record(model, "seq2seq"),
        max_length=max_length,
        target_length=target_length,
        batch_tokens=batch_tokens,
    )


def _record(model: Any, kind: str, variant: str | None = None) -> ModelRecord:
    return ModelRecord(
        id="tiny",
        revision=None,
        type=kind,
        architecture=type(model).__name__,
        num_parameters=model.num_parameters(),
        weights_sha256="",
        dtype="float32",
        pll=variant,
    )
