"""The embedded models, and the little world that they were trained on. No heavy library is loaded here."""

from __future__ import annotations

from pathlib import Path

from lmeval.errors import UsageError, did_you_mean

_MODELS_DIR = Path(__file__).parent / "models"

DEMO_MODELS: dict[str, str] = {
    "demo": str(_MODELS_DIR / "demo"),
    "demo-masked": str(_MODELS_DIR / "demo-masked"),
    "demo-seq2seq": str(_MODELS_DIR / "demo-seq2seq"),
}


def demo_model_path(name: str) -> Path:
    """The folder of an embedded model, in Hugging Face layout.

    Raises:
        UsageError: No embedded model has this name.
    """
    if name not in DEMO_MODELS:
        raise UsageError(
            f'"{name}" is not an embedded model.{did_you_mean(name, DEMO_MODELS)}',
            fix=f"use one of: {', '.join(DEMO_MODELS)}",
        )
    return Path(DEMO_MODELS[name])
