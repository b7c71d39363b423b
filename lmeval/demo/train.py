"""Trains the demo models on the little world: `python -m lmeval.demo.train [demo] [demo-masked] [demo-seq2seq]`.

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

from lmeval.demo import demo_model_path, lexicon, pairs, vocabulary, world

if TYPE_CHECKING:
    import torch
    from tokenizers import Encoding, Tokenizer

WINDOW = 256  # max_position_embeddings
INITIALIZER_RANGE = 0.06  # for layers this narrow, the usual 0.02 starts too near zero
CAUSAL_ROW_TOKENS = 128
SEQ2SEQ_BATCH_PAIRS = 3  # pairs of a batch for each document of one that holds documents
SEQ2SEQ_PAIR_BATCHES = 2  # for each batch of documents
MASKED_ROW_BLOCKS = 3  # every other batch; the others hold one block a row
TOKENIZER_SEED, TRAINING_SEED = 1, 2
NUM_TOKENIZER_BLOCKS = 20_000

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """What the model reads, and what each of its outputs should predict; all tensors are (B, T)."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor  # token ids, or IGNORED


Batches = Iterator[Batch]


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
        initializer_range=INITIALIZER_RANGE,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    return LlamaForCausalLM(config)


def build_masked(tokenizer: Tokenizer) -> Any:
    """A ModernBERT of about 0.65 million parameters, randomly initialised; attention is global throughout."""
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    special = {
        "pad_token_id": tokenizer.token_to_id(vocabulary.PAD),
        "cls_token_id": tokenizer.token_to_id(vocabulary.CLS),
        "sep_token_id": tokenizer.token_to_id(vocabulary.SEP),
    }
    config = ModernBertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
        global_attn_every_n_layers=1,
        initializer_range=INITIALIZER_RANGE,
        bos_token_id=special["cls_token_id"],
        eos_token_id=special["sep_token_id"],
        **special,
    )
    return ModernBertForMaskedLM(config)


def build_seq2seq(tokenizer: Tokenizer) -> Any:
    """A Marian of about 0.76 million parameters, randomly initialised.

    Marian, not T5: with relative positions alone an encoder this small did not learn in 4,000 steps to tell the first
    of three people from the second.
    """
    from transformers import MarianConfig, MarianMTModel

    pad, eos = tokenizer.token_to_id(vocabulary.SEQ2SEQ_PAD), tokenizer.token_to_id(vocabulary.EOS)
    config = MarianConfig(
        vocab_size=tokenizer.get_vocab_size(),
        decoder_vocab_size=tokenizer.get_vocab_size(),
        d_model=128,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        max_position_embeddings=WINDOW,
        dropout=0.0,
        scale_embedding=True,
        init_std=INITIALIZER_RANGE,
        pad_token_id=pad,
        eos_token_id=eos,
        decoder_start_token_id=pad,
        forced_eos_token_id=None,
    )
    return MarianMTModel(config)


def causal_batches(tokenizer: Tokenizer, batch: int, rng: Random) -> Batches:
    """Rows (batch, CAUSAL_ROW_TOKENS) of BOS, then blocks with blank lines between, cut at the row's end."""
    import torch

    blocks = training_blocks(rng)
    while True:
        rows = []
        for _ in range(batch):
            row = [tokenizer.token_to_id(vocabulary.BOS)]
            while len(row) <= CAUSAL_ROW_TOKENS:
                row += tokenizer.encode(next(blocks) + world.BLOCK_SEPARATOR, add_special_tokens=False).ids
            rows.append(row[: CAUSAL_ROW_TOKENS + 1])
        ids = torch.tensor(rows)
        yield Batch({"input_ids": ids[:, :-1]}, ids[:, 1:])  # output t predicts token t + 1


def seq2seq_batches(tokenizer: Tokenizer, batch: int, rng: Random) -> Batches:
    """Whole documents written to an empty input in one batch, contexts and their targets in the next ones."""
    while True:
        yield _pair_batch(tokenizer, [pairs.document_pair(rng) for _ in range(batch)])
        for _ in range(SEQ2SEQ_PAIR_BATCHES):
            yield _pair_batch(tokenizer, [pairs.sample_pair(rng) for _ in range(batch * SEQ2SEQ_BATCH_PAIRS)])


def _pair_batch(tokenizer: Tokenizer, sampled: list[pairs.Pair]) -> Batch:
    """The decoder reads its target one token late, behind the padding token."""
    import torch

    pad = int(tokenizer.token_to_id(vocabulary.SEQ2SEQ_PAD) or 0)
    contexts, targets = zip(*sampled, strict=True)
    read = _padded([encoding.ids for encoding in tokenizer.encode_batch(contexts)], pad)
    written = _padded([encoding.ids for encoding in tokenizer.encode_batch(targets)], pad)
    inputs = {
        "input_ids": read,
        "attention_mask": read.ne(pad).long(),
        "decoder_input_ids": torch.cat([torch.full_like(written[:, :1], pad), written[:, :-1]], dim=1),
    }
    return Batch(inputs, written.masked_fill(written.eq(pad), IGNORED))


def _padded(rows: list[list[int]], pad: int) -> torch.Tensor:
    import torch

    width = max(map(len, rows))
    return torch.tensor([row + [pad] * (width - len(row)) for row in rows])


def masked_batches(tokenizer: Tokenizer, batch: int, rng: Random) -> Batches:
    """Rows of one block or of several, with some tokens masked, and labels at those alone.

    A masked token takes the later pieces of its word with it half the time, as in pseudo-log-likelihoods
    within words (Kauf and Ivanova, 2023).
    """
    import torch

    blocks = training_blocks(rng)
    pad, mask = tokenizer.token_to_id(vocabulary.PAD), tokenizer.token_to_id(vocabulary.MASK)
    telling = _telling_tokens(tokenizer)
    step = 0
    while True:
        step += 1
        num_blocks = MASKED_ROW_BLOCKS if step % 2 else 1
        texts = [
            world.BLOCK_SEPARATOR.join(next(blocks) for _ in range(num_blocks))
            for _ in range(batch * MASKED_ROW_BLOCKS // num_blocks)
        ]
        encodings = tokenizer.encode_batch(texts)
        width = max(len(encoding.ids) for encoding in encodings)
        ids, seen, labels = [], [], []
        for encoding in encodings:
            hidden = _choose_masked(encoding, telling, rng)
            padding = width - len(hidden)
            tokens = list(zip(encoding.ids, hidden, strict=True))
            ids.append([mask if hide else token for token, hide in tokens] + [pad] * padding)
            seen.append([1] * len(tokens) + [0] * padding)
            labels.append([token if hide else IGNORED for token, hide in tokens] + [IGNORED] * padding)
        inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(seen)}
        yield Batch(inputs, torch.tensor(labels))


def _choose_masked(encoding: Encoding, telling: set[int], rng: Random) -> list[bool]:
    """Which tokens of a row to hide: 5-35 % of them, half of the telling ones, never [CLS] or [SEP]."""
    rate = 0.05 + 0.3 * rng.random()
    whole = rng.random() < 0.5
    hidden: list[bool] = []
    for position, (token, word) in enumerate(zip(encoding.ids, encoding.word_ids, strict=True)):
        later_piece = position > 0 and word == encoding.word_ids[position - 1] and hidden[-1]
        chance = 0.5 if token in telling else rate
        hidden.append(word is not None and ((whole and later_piece) or rng.random() < chance))
    if not any(hidden):
        hidden[1] = True
    return hidden


def _telling_tokens(tokenizer: Tokenizer) -> set[int]:
    """Tokens that follow from the rest of their block: facts, agreeing forms, sentiments."""
    words = [form for verb in lexicon.ACTIONS + lexicon.MOVES for form in (verb.singular, verb.plural)]
    words += [*world.REFLEXIVES.values(), *(label for label, _, _ in world.SENTIMENTS)]
    for person in lexicon.PEOPLE:
        words += [person.home, person.trade]
    return {token for word in words for token in tokenizer.encode(word, add_special_tokens=False).ids}


def entropy_nats_per_token(tokenizer: Tokenizer, rng: Random, num_documents: int = 500) -> float:
    """The world's entropy per token: no causal model's loss gets below it (a masked model's may)."""
    texts = [world.sample_document(rng, held_out=False) for _ in range(num_documents)]
    num_tokens = sum(len(e.ids) for e in tokenizer.encode_batch(texts, add_special_tokens=False))
    # a training row has a separator after its last block too
    num_tokens += num_documents * len(tokenizer.encode(world.BLOCK_SEPARATOR, add_special_tokens=False).ids)
    return world.document_entropy_bits() * math.log(2) * num_documents / num_tokens


def save(model: Any, tokenizer: Tokenizer, folder: Path, special_tokens: dict[str, str]) -> None:
    """Writes a Hugging Face model folder: float32 safetensors, config.json, tokenizer.json."""
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=WINDOW,
        model_input_names=["input_ids", "attention_mask"],
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
    steps: int
    batch: int
    learning_rate: float = 4e-3
    warmup: int = 100


RECIPES: dict[str, Recipe] = {
    "demo": Recipe(
        vocabulary.causal_tokenizer,
        vocabulary.CAUSAL_SPECIAL_TOKENS,
        build_causal,
        causal_batches,
        steps=1200,
        batch=12,
    ),
    "demo-masked": Recipe(
        vocabulary.masked_tokenizer,
        vocabulary.MASKED_SPECIAL_TOKENS,
        build_masked,
        masked_batches,
        steps=3500,
        batch=12,
    ),
    "demo-seq2seq": Recipe(
        vocabulary.seq2seq_tokenizer,
        vocabulary.SEQ2SEQ_SPECIAL_TOKENS,
        build_seq2seq,
        seq2seq_batches,
        steps=4000,
        batch=12,
    ),
}


def train(model: Any, batches: Batches, recipe: Recipe, report: Callable[[int, float], None]) -> None:
    """Muon and AdamW, with a warmup and a cosine decay to zero.

    Muon (Jordan et al., 2024) needs about half of AdamW's steps until these models look up what they read.

    Args:
        report: Gets the step and the mean loss of the last 100 steps, in nats per scored token.
    """
    import torch

    embedding = model.get_input_embeddings().weight
    linear = {module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)} - {
        embedding
    }
    matrices = [p for p in model.parameters() if p in linear]
    others = [p for p in model.parameters() if p not in linear]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(
            matrices, lr=recipe.learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    losses: list[float] = []
    model.train()
    for step in range(1, recipe.steps + 1):
        progress = max(0, step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
        factor = min(step / recipe.warmup, 0.5 * (1 + math.cos(math.pi * progress)))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = recipe.learning_rate * factor
        batch = next(batches)
        logits = model(**batch.inputs).logits.flatten(0, 1)  # (B * T, vocabulary)
        loss = torch.nn.functional.cross_entropy(logits, batch.labels.flatten(), ignore_index=IGNORED)
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        if step % 100 == 0:
            report(step, sum(losses[-100:]) / 100)
    model.eval()


def train_demo(recipe: Recipe, folder: Path) -> None:
    """Builds the tokenizer, trains the model, saves both."""
    import torch

    torch.set_num_threads(1)  # the order of sums, hence the weights, must not depend on the number of cores
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
    os.nice(2)  # leaves the machine usable
    for name in arguments.names:
        recipe = RECIPES[name] if arguments.steps is None else replace(RECIPES[name], steps=arguments.steps)
        print(name)
        train_demo(recipe, arguments.output / name if arguments.output else demo_model_path(name))


if __name__ == "__main__":
    main()
