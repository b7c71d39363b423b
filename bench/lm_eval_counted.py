"""lm-eval's own command, with its forward calls counted and timed. Runs in lm-eval's environment.

    .venv-bench/bin/python bench/lm_eval_counted.py COUNTS.json run --model hf ...

COUNTS.json gets the tokens that went through the model (padding included), the seconds inside the model,
and every request's tokens and log-likelihood, in the order of the documents; for tasks that have the model write,
every context and text, and the tokens that decoding ran, rows that were done included.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def count(counts: dict[str, Any]) -> None:
    """Wraps the methods that every likelihood and every text goes through."""
    import torch
    from lm_eval.models.huggingface import HFLM

    model_call, loglikelihood_tokens = HFLM._model_call, HFLM._loglikelihood_tokens

    def timed_model_call(self: Any, inps: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        logits = model_call(self, inps, *args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        counts["seconds_model"] += time.perf_counter() - start
        counts["tokens_computed"] += inps.numel()
        return logits

    def recorded_loglikelihood_tokens(self: Any, requests: Any, *args: Any, **kwargs: Any) -> Any:
        answers = loglikelihood_tokens(self, requests, *args, **kwargs)
        for (_, context, continuation), (loglikelihood, _) in zip(requests, answers, strict=True):
            counts["requests"].append([list(context), list(continuation), loglikelihood])
        return answers

    HFLM._model_call, HFLM._loglikelihood_tokens = timed_model_call, recorded_loglikelihood_tokens
    model_generate, generate_until = HFLM._model_generate, HFLM.generate_until

    def timed_model_generate(self: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        written = model_generate(self, context, *args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        counts["seconds_model"] += time.perf_counter() - start
        counts["tokens_run"] += written.numel() - context.numel()
        counts["tokens_computed"] += written.numel() - len(written)
        return written

    def recorded_generate_until(self: Any, requests: Any, *args: Any, **kwargs: Any) -> Any:
        texts = generate_until(self, requests, *args, **kwargs)
        counts["texts"] += [[r.args[0], text] for r, text in zip(requests, texts, strict=True)]
        return texts

    HFLM._model_generate, HFLM.generate_until = timed_model_generate, recorded_generate_until


def main() -> None:
    path = sys.argv.pop(1)
    counts: dict[str, Any] = {"seconds_model": 0.0, "tokens_computed": 0, "requests": []}
    counts |= {"texts": [], "tokens_run": 0}
    from lm_eval.__main__ import cli_evaluate

    count(counts)
    cli_evaluate()
    with open(path, "w", encoding="utf-8") as file:
        json.dump(counts, file)


if __name__ == "__main__":
    main()
