"""lm-eval's own command, with its forward calls counted and timed. Runs in lm-eval's environment.

    .venv-bench/bin/python bench/lm_eval_counted.py COUNTS.json run --model hf ...

COUNTS.json gets the tokens that went through the model (padding included), the seconds inside the model,
and every request's tokens and log-likelihood, in the order of the documents.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def count(counts: dict[str, Any]) -> None:
    """Wraps the two methods that every likelihood goes through."""
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


def main() -> None:
    path = sys.argv.pop(1)
    counts: dict[str, Any] = {"seconds_model": 0.0, "tokens_computed": 0, "requests": []}
    from lm_eval.__main__ import cli_evaluate

    count(counts)
    cli_evaluate()
    with open(path, "w", encoding="utf-8") as file:
        json.dump(counts, file)


if __name__ == "__main__":
    main()
