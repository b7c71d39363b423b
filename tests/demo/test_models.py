"""The demo models are worth scoring: near the world's entropy, far above chance; untrained ones at chance.

A naive loop scores them here, document by document; it shares no code with the engine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest
import sacrebleu
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
)

from lmeval.demo import DEMO_MODELS, demo_model_path, world
from lmeval.errors import UsageError
from tests.demo import naive

DATA_DIR = Path(__file__).parents[2] / "tasks" / "data" / "demo"
FRESH_SEED = 77
CLASSES = {
    "demo": AutoModelForCausalLM,
    "demo-masked": AutoModelForMaskedLM,
    "demo-seq2seq": AutoModelForSeq2SeqLM,
}


@dataclass
class Scorer:
    """A model with the naive loop for its kind; scores in nats."""

    model: Any
    tokenizer: Any
    whole_text: Callable[[Any, Any, str], float]
    completion: Callable[[Any, Any, str, str, str], tuple[float, bool]]

    def text(self, text: str) -> float:
        return self.whole_text(self.model, self.tokenizer, text)

    def target(self, context: str, target: str, suffix: str = "") -> tuple[float, bool]:
        return self.completion(self.model, self.tokenizer, context, target, suffix)

    def answer(self, context: str) -> str:
        seq2seq = self.model.config.is_encoder_decoder
        write = naive.seq2seq_answer if seq2seq else naive.causal_answer
        return write(self.model, self.tokenizer, context)


def scorer(name: str, model: Any) -> Scorer:
    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODELS[name])
    if name == "demo":
        return Scorer(
            model,
            tokenizer,
            lambda model, tokenizer, text: naive.causal_score(model, tokenizer, "", text)[0],
            lambda model, tokenizer, context, target, _: naive.causal_score(
                model, tokenizer, context, target
            ),
        )
    if name == "demo-seq2seq":
        return Scorer(
            model,
            tokenizer,
            lambda model, tokenizer, text: naive.seq2seq_score(model, tokenizer, "", text)[0],
            lambda model, tokenizer, context, target, _: naive.seq2seq_score(
                model, tokenizer, context, target.lstrip()
            ),
        )
    return Scorer(model, tokenizer, naive.masked_text_score, naive.masked_score)


def trained(name: str) -> Scorer:
    return scorer(name, CLASSES[name].from_pretrained(DEMO_MODELS[name]).eval())


def untrained(name: str) -> Scorer:
    torch.manual_seed(0)
    return scorer(name, CLASSES[name].from_config(AutoConfig.from_pretrained(DEMO_MODELS[name])).eval())


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Rows this small only lose by being shared out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def causal() -> Scorer:
    return trained("demo")


@pytest.fixture(scope="module")
def masked() -> Scorer:
    return trained("demo-masked")


@pytest.fixture(scope="module")
def seq2seq() -> Scorer:
    return trained("demo-seq2seq")


@pytest.fixture(scope="module")
def untrained_seq2seq() -> Scorer:
    return untrained("demo-seq2seq")


@pytest.fixture(scope="module")
def untrained_causal() -> Scorer:
    return untrained("demo")


@pytest.fixture(scope="module")
def untrained_masked() -> Scorer:
    return untrained("demo-masked")


def rows(name: str, limit: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA_DIR / f"{name}.jsonl").read_text().splitlines()[:limit]]


def fresh_documents(count: int) -> list[str]:
    rng = Random(FRESH_SEED)
    return [world.sample_document(rng, held_out=True) for _ in range(count)]


def bits_per_byte(total_bits: float, texts: list[str]) -> float:
    return total_bits / sum(len(text.encode()) for text in texts)


def model_bits_per_byte(model: Scorer, texts: list[str]) -> float:
    return bits_per_byte(-sum(map(model.text, texts)) / math.log(2), texts)


def world_bits_per_byte(texts: list[str]) -> float:
    return bits_per_byte(-sum(map(world.document_log2_probability, texts)), texts)


def minimal_pairs_accuracy(model: Scorer, limit: int) -> float:
    return fmean(model.text(row["good"]) > model.text(row["bad"]) for row in rows("minimal_pairs", limit))


def cloze_accuracy(model: Scorer, limit: int) -> float:
    return fmean(
        model.target(row["before"], f" {row['answer']}", row["after"])[1] for row in rows("cloze", limit)
    )


def sentiment_accuracy(model: Scorer, limit: int) -> float:
    def is_right(row: dict[str, Any]) -> bool:
        scores = [
            model.target(f"Review: {row['review']}\nSentiment:", choice)[0] for choice in (" good", " bad")
        ]
        return bool(scores[row["label"]] > scores[1 - row["label"]])

    return fmean(map(is_right, rows("classification", limit)))


def qa_accuracy(model: Scorer, limit: int) -> float:
    return fmean(
        model.answer(f"Question: {row['question']}\nAnswer:") == row["answer"] for row in rows("qa", limit)
    )


def translation_bleu(model: Scorer, limit: int) -> float:
    documents = rows("translation", limit)
    written = [model.answer(f"Tolmic: {row['tolmic']}\nEnglish:") for row in documents]
    return sacrebleu.corpus_bleu(written, [[row["english"] for row in documents]]).score


@pytest.mark.parametrize("name", DEMO_MODELS)
def test_folder_is_a_small_float32_model_with_its_tokenizer(name: str) -> None:
    folder = demo_model_path(name)
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert (folder / "model.safetensors").stat().st_size < 3_200_000
    model = CLASSES[name].from_pretrained(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert (
        model.config.max_position_embeddings == AutoTokenizer.from_pretrained(folder).model_max_length == 256
    )


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="demo-masked"):
        demo_model_path("demo-maskd")


def test_causal_tokenizer_is_lossless_and_adds_one_bos(causal: Scorer) -> None:
    for text in [*fresh_documents(20), "any other text: naïve 東京 \U0001f642\n\n tail "]:
        ids = causal.tokenizer(text)["input_ids"]
        assert ids[0] == causal.tokenizer.bos_token_id and ids.count(ids[0]) == 1
        assert causal.tokenizer.decode(ids[1:]) == text
    longest = max(len(causal.tokenizer(row["text"])["input_ids"]) for row in rows("perplexity", 200))
    assert longest <= causal.model.config.max_position_embeddings


def test_seq2seq_tokenizer_is_lossless_and_adds_one_end_token(seq2seq: Scorer) -> None:
    for text in [*fresh_documents(20), "any other text: naïve 東京 \U0001f642\n\n tail "]:
        ids = seq2seq.tokenizer(text)["input_ids"]
        assert ids[-1] == seq2seq.tokenizer.eos_token_id and ids.count(ids[-1]) == 1
        assert seq2seq.tokenizer.decode(ids[:-1]) == text


@pytest.mark.parametrize("name", DEMO_MODELS)
def test_no_token_crosses_from_context_to_target(name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODELS[name])

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    for row in rows("cloze", 40):
        assert ids(f"{row['before']} {row['answer']}") == ids(row["before"]) + ids(f" {row['answer']}")
    for row in rows("classification", 40):
        context = f"Review: {row['review']}\nSentiment:"
        for choice in (" good", " bad"):
            assert len(ids(choice)) == 1
            assert ids(context + choice) == ids(context) + ids(choice)


def test_masked_tokenizer_knows_every_word_of_the_world(masked: Scorer) -> None:
    for text in fresh_documents(100):
        assert masked.tokenizer.unk_token_id not in masked.tokenizer(text)["input_ids"]
    assert masked.tokenizer.tokenize("home to Tolmar") == ["home", "to", "Tol", "##mar"]


def test_causal_bits_per_byte_lie_above_the_entropy_and_within_ten_percent(causal: Scorer) -> None:
    texts = fresh_documents(160)
    entropy = world_bits_per_byte(texts)
    assert entropy < model_bits_per_byte(causal, texts) < 1.1 * entropy


def test_seq2seq_bits_per_byte_lie_above_the_entropy_and_within_a_fifth(seq2seq: Scorer) -> None:
    texts = fresh_documents(100)
    entropy = world_bits_per_byte(texts)
    assert entropy < model_bits_per_byte(seq2seq, texts) < 1.2 * entropy


def test_masked_pseudo_bits_lie_below_the_entropy_as_words_see_both_sides(masked: Scorer) -> None:
    texts = fresh_documents(20)
    entropy = world_bits_per_byte(texts)
    assert 0.2 * entropy < model_bits_per_byte(masked, texts) < entropy


def test_causal_is_far_above_chance(causal: Scorer) -> None:
    assert minimal_pairs_accuracy(causal, 100) > 0.9
    assert cloze_accuracy(causal, 100) > 0.9
    assert sentiment_accuracy(causal, 100) > 0.9
    assert qa_accuracy(causal, 60) > 0.8
    assert translation_bleu(causal, 40) > 60


def test_masked_is_far_above_chance(masked: Scorer) -> None:
    assert minimal_pairs_accuracy(masked, 60) > 0.9
    assert cloze_accuracy(masked, 100) > 0.9
    assert sentiment_accuracy(masked, 100) > 0.9


def test_seq2seq_is_far_above_chance(seq2seq: Scorer) -> None:
    assert minimal_pairs_accuracy(seq2seq, 100) > 0.9
    assert cloze_accuracy(seq2seq, 100) > 0.9
    assert sentiment_accuracy(seq2seq, 100) > 0.9
    assert qa_accuracy(seq2seq, 60) > 0.8
    assert translation_bleu(seq2seq, 40) > 60


def test_untrained_seq2seq_is_at_chance(untrained_seq2seq: Scorer) -> None:
    texts = fresh_documents(20)
    assert model_bits_per_byte(untrained_seq2seq, texts) > 4 * world_bits_per_byte(texts)
    assert 0.35 < minimal_pairs_accuracy(untrained_seq2seq, 100) < 0.65
    assert cloze_accuracy(untrained_seq2seq, 60) < 0.05
    assert 0.35 < sentiment_accuracy(untrained_seq2seq, 100) < 0.65
    assert qa_accuracy(untrained_seq2seq, 20) < 0.1
    assert translation_bleu(untrained_seq2seq, 20) < 5


def test_untrained_causal_is_at_chance(untrained_causal: Scorer) -> None:
    texts = fresh_documents(20)
    assert model_bits_per_byte(untrained_causal, texts) > 4 * world_bits_per_byte(texts)
    assert 0.35 < minimal_pairs_accuracy(untrained_causal, 100) < 0.65
    assert cloze_accuracy(untrained_causal, 60) < 0.05
    assert 0.35 < sentiment_accuracy(untrained_causal, 100) < 0.65
    assert qa_accuracy(untrained_causal, 20) < 0.1
    assert translation_bleu(untrained_causal, 20) < 5


def test_untrained_masked_is_at_chance(untrained_masked: Scorer) -> None:
    texts = fresh_documents(5)
    assert model_bits_per_byte(untrained_masked, texts) > 3 * world_bits_per_byte(texts)
    assert 0.3 < minimal_pairs_accuracy(untrained_masked, 60) < 0.7
    assert cloze_accuracy(untrained_masked, 60) < 0.05
    assert 0.35 < sentiment_accuracy(untrained_masked, 100) < 0.65
