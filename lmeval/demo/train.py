"""Trains the demo models on the little world: `python -m lmeval.demo.train [demo] [demo-masked]`.

The recipe is fixed and seeded; the loss is printed beside the world's entropy, which no model can beat.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from lmeval.demo import demo_model_path, vocabulary, world

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

WINDOW = 256  # max_position_embeddings
CAUSAL_ROW_TOKENS = 128  # a training row; a masked row holds one block or one document
TOKENIZER_SEED, TRAINING_SEED = 1, 2
NUM_TOKENIZER_BLOCKS = 20_000

Batches = Iterator[dict[str, "torch.Tensor"]]


def training_blocks(rng: Random) -> Iterator[str]:
    """An endless stream of blocks, none of them held out."""
    while True:
        yield world.sample_block(rng, held_out=False).text


def build_causal(tokenizer: Tokenizer) -> Any:
    """A Llama of about 0.75 million parameters, randomly initialised."""
    from transformers import LlamaConfig, LlamaForCausalLM

    bos, eos = tokenizer.token_to_id(vocabulary.BOS), tokenizer.token_to_id(vocabulary.EOS)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    return LlamaForCausalLM(config)


def build_masked(tokenizer: Tokenizer) -> Any:
    """A BERT of about 0.7 million parameters, randomly initialised."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        type_vocab_size=2,
        pad_token_id=tokenizer.token_to_id(vocabulary.PAD),
    )
    return BertForMaskedLM(config)


def causal_batches(tokenizer: Tokenizer, batch: int, rng: Random) -> Batches:
    """Rows (batch, length) of BOS, then blocks with blank lines between, cut at the row's end."""
    import torch

    blocks = training_blocks(rng)
    bos = tokenizer.token_to_id(vocabulary.BOS)
    separator = tokenizer.encode(world.BLOCK_SEPARATOR, add_special_tokens=False).ids
    while True:
        rows = []
        for _ in range(batch):
            row = [bos]
            while len(row) < CAUSAL_ROW_TOKENS:
                row += tokenizer.encode(next(blocks), add_special_tokens=False).ids + separator
            rows.append(row[:CAUSAL_ROW_TOKENS])
        ids = torch.tensor(rows)
        yield {"input_ids": ids, "labels": ids}


def masked_batches(tokenizer: Tokenizer, batch: int, rng: Random) -> Batches:
    """Rows of one block, or of one document, with some tokens masked, and labels at those alone.

    A masked token takes the later pieces of its word with it half the time, as in pseudo-log-likelihoods
    within words (Kauf and Ivanova, 2023).
    """
    import torch

    blocks = training_blocks(rng)
    pad, mask = tokenizer.token_to_id(vocabulary.PAD), tokenizer.token_to_id(vocabulary.MASK)
    step = 0
    while True:
        step += 1
        num_blocks = world.BLOCKS_PER_DOCUMENT if step % 2 else 1
        texts = [
            world.BLOCK_SEPARATOR.join(next(blocks) for _ in range(num_blocks))
            for _ in range(batch * world.BLOCKS_PER_DOCUMENT // num_blocks)
        ]
        encodings = tokenizer.encode_batch(texts)
        width = max(len(encoding.ids) for encoding in encodings)
        ids, labels = [], []
        for encoding in encodings:
            hidden = _choose_masked(encoding.ids, encoding.word_ids, rng)
            padding = width - len(hidden)
            ids.append(
                [mask if hide else i for hide, i in zip(hidden, encoding.ids, strict=True)] + [pad] * padding
            )
            labels.append(
                [i if hide else -100 for hide, i in zip(hidden, encoding.ids, strict=True)] + [-100] * padding
            )
        input_ids = torch.tensor(ids)
        yield {
            "input_ids": input_ids,
            "attention_mask": (input_ids != pad).long(),
            "labels": torch.tensor(labels),
        }


def _choose_masked(ids: list[int], word_ids: list[int | None], rng: Random) -> list[bool]:
    """Which tokens of a row to hide: 5-35 % of them, never [CLS] or [SEP]."""
    rate = 0.05 + 0.3 * rng.random()
    whole = rng.random() < 0.5
    hidden: list[bool] = []
    for position, word in enumerate(word_ids):
        later_piece = position > 0 and word == word_ids[position - 1] and hidden[-1]
        hidden.append(word is not None and ((whole and later_piece) or rng.random() < rate))
    if not any(hidden):
        hidden[1] = True
    return hidden


def entropy_nats_per_token(tokenizer: Tokenizer, rng: Random, num_documents: int = 500) -> float:
    """The world's entropy spread over a tokenizer's tokens: the least loss any causal model can reach."""
    texts = [world.sample_document(rng, held_out=False) for _ in range(num_documents)]
    num_tokens = sum(len(e.ids) for e in tokenizer.encode_batch(texts, add_special_tokens=False))
    separator_tokens = 2 * num_documents  # a training row has a blank line after every block
    return world.document_entropy_bits() * math.log(2) * num_documents / (num_tokens + separator_tokens)


def save(model: Any, tokenizer: Tokenizer, folder: Path, special_tokens: dict[str, str]) -> None:
    """Writes a Hugging Face model folder: float32 safetensors, config.json, tokenizer.json."""
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=WINDOW,
        clean_up_tokenization_spaces=False,
        **special_tokens,
    )
    wrapped.save_pretrained(folder)


@dataclass(frozen=True)
class Recipe:
    """What to train, for how long and how fast."""

    make_tokenizer: Callable[[list[str]], Tokenizer]
    special_tokens: dict[str, str]
    build: Callable[[Tokenizer], Any]
    batches: Callable[[Tokenizer, int, Random], Batches]
    learning_rate: float
    steps: int = 2000
    batch: int = 32
    warmup: int = 200


RECIPES: dict[str, Recipe] = {
    "demo": Recipe(
        vocabulary.causal_tokenizer,
        vocabulary.CAUSAL_SPECIAL_TOKENS,
        build_causal,
        causal_batches,
        learning_rate=3e-3,
    ),
    "demo-masked": Recipe(
        vocabulary.masked_tokenizer,
        vocabulary.MASKED_SPECIAL_TOKENS,
        build_masked,
        masked_batches,
        learning_rate=1.5e-3,
    ),
}


def train(model: Any, batches: Batches, recipe: Recipe, report: Callable[[int, float], None]) -> None:
    """AdamW with a warmup and a cosine decay to zero; `report` gets the mean loss (nats) of 100 steps."""
    import torch

    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    losses: list[float] = []
    model.train()
    for step in range(1, recipe.steps + 1):
        progress = max(0, step - recipe.warmup) / (recipe.steps - recipe.warmup)
        factor = min(step / recipe.warmup, 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * factor
        loss = model(**next(batches)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 100 == 0:
            report(step, sum(losses[-100:]) / 100)
    model.eval()


def train_demo(recipe: Recipe, folder: Path) -> None:
    """Builds the tokenizer, trains the model, saves both."""
    import torch

    torch.manual_seed(TRAINING_SEED)
    sampled = training_blocks(Random(TOKENIZER_SEED))
    tokenizer = recipe.make_tokenizer([next(sampled) for _ in range(NUM_TOKENIZER_BLOCKS)])
    model = recipe.build(tokenizer)
    floor = entropy_nats_per_token(tokenizer, Random(TOKENIZER_SEED))
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, vocabulary {tokenizer.get_vocab_size()}"
    )
    started = time.perf_counter()

    def report(step: int, loss: float) -> None:
        seconds = time.perf_counter() - started
        print(f"step {step}  loss {loss:.4f}  world {floor:.4f} nats per token  {seconds:.0f} s", flush=True)

    train(model, recipe.batches(tokenizer, recipe.batch, Random(TRAINING_SEED)), recipe, report)
    save(model, tokenizer, folder, recipe.special_tokens)


def main() -> None:
    """Trains the named models, or all, into their folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(RECIPES), help="which models (default: all)")
    parser.add_argument(
        "--output", type=Path, help="folder to write to (default: where the models are read from)"
    )
    parser.add_argument("--steps", type=int, help="train for another number of steps")
    arguments = parser.parse_args()
    os.nice(5)  # leaves the machine usable
    for name in arguments.names:
        recipe = RECIPES[name] if arguments.steps is None else replace(RECIPES[name], steps=arguments.steps)
        print(name)
        train_demo(recipe, arguments.output / name if arguments.output else demo_model_path(name))


if __name__ == "__main__":
    main()
