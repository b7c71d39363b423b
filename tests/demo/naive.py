"""Scoring as plainly as it can be written, one document at a time; it shares no code with the engine."""

from __future__ import annotations

from typing import Any

import torch


@torch.no_grad()
def causal_score(model: Any, tokenizer: Any, context: str, target: str) -> tuple[float, bool]:
    """Nats of `target` after `context` (the tokenizer adds BOS); whether it is the greedy continuation."""
    num_context = len(tokenizer(context)["input_ids"])
    ids = torch.tensor([tokenizer(context + target)["input_ids"]])
    logprobs = model(ids).logits[0, num_context - 1 : -1].log_softmax(-1)  # predicts ids[num_context:]
    answer = ids[0, num_context:]
    return logprobs.gather(1, answer[:, None]).sum().item(), bool((logprobs.argmax(-1) == answer).all())


@torch.no_grad()
def causal_answer(model: Any, tokenizer: Any, context: str, max_new_tokens: int = 24) -> str:
    """The greedy continuation up to the end of the line."""
    ids = torch.tensor([tokenizer(context)["input_ids"]])
    written = ""
    for _ in range(max_new_tokens):
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
        written = tokenizer.decode(ids[0], skip_special_tokens=True)[len(context) :]
        if "\n" in written:
            break
    return written.split("\n")[0].strip()


@torch.no_grad()
def masked_text_score(model: Any, tokenizer: Any, text: str) -> float:
    """Pseudo-log-likelihood in nats, each token masked with the later pieces of its word."""
    encoding = tokenizer(text)
    words, ids = encoding.word_ids(), torch.tensor(encoding["input_ids"])
    positions = [i for i, word in enumerate(words) if word is not None]
    copies = ids.repeat(len(positions), 1)
    for row, position in enumerate(positions):
        later = [i for i in positions if i >= position and words[i] == words[position]]
        copies[row, later] = tokenizer.mask_token_id
    logprobs = model(copies).logits.log_softmax(-1)
    return float(sum(logprobs[row, position, ids[position]] for row, position in enumerate(positions)))


@torch.no_grad()
def masked_score(model: Any, tokenizer: Any, context: str, target: str, suffix: str) -> tuple[float, bool]:
    """Nats of `target` between both contexts, revealed left to right; whether each piece is the top guess."""
    start = len(tokenizer(context, add_special_tokens=False)["input_ids"]) + 1
    end = len(tokenizer(context + target, add_special_tokens=False)["input_ids"]) + 1
    ids = torch.tensor(tokenizer(context + target + suffix)["input_ids"])
    total, greedy = 0.0, True
    for position in range(start, end):
        hidden = ids.clone()
        hidden[position:end] = tokenizer.mask_token_id
        logprobs = model(hidden[None]).logits[0, position].log_softmax(-1)
        total += logprobs[ids[position]].item()
        greedy = greedy and logprobs.argmax().item() == ids[position].item()
    return total, greedy


@torch.no_grad()
def seq2seq_score(model: Any, tokenizer: Any, context: str, target: str) -> tuple[float, bool]:
    """Nats of `target` as what the decoder writes to `context`, its end token left out; whether it is greedy."""
    source = torch.tensor([tokenizer(context)["input_ids"]])
    labels = torch.tensor([tokenizer(text_target=target)["input_ids"]])
    logprobs = model(input_ids=source, labels=labels).logits[0, :-1].log_softmax(-1)
    answer = labels[0, :-1]
    return logprobs.gather(1, answer[:, None]).sum().item(), bool((logprobs.argmax(-1) == answer).all())


@torch.no_grad()
def seq2seq_answer(model: Any, tokenizer: Any, context: str, max_new_tokens: int = 24) -> str:
    """What the decoder writes up to its end token, greedily."""
    source = torch.tensor([tokenizer(context)["input_ids"]])
    written = [model.config.decoder_start_token_id]
    for _ in range(max_new_tokens):
        logits = model(input_ids=source, decoder_input_ids=torch.tensor([written])).logits
        written.append(int(logits[0, -1].argmax()))
        if written[-1] == tokenizer.eos_token_id:
            break
    return str(tokenizer.decode(written, skip_special_tokens=True)).strip()
