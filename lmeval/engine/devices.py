"""The device that a model runs on."""

from __future__ import annotations

from lmeval.errors import UsageError


def choose_device(asked: str) -> str:
    """cpu, cuda, cuda:N or mps.

    Raises:
        UsageError: The device asked for is not there.
    """
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = asked.partition(":")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in there or (number and not number.isdigit()):
        raise UsageError(f'"{asked}" is no device', fix="--device takes auto, cpu, cuda, cuda:N or mps")
    if not there[kind] or (kind == "cuda" and number and int(number) >= torch.cuda.device_count()):
        raise UsageError(
            f"this machine has no {asked} that torch can use", fix="give --device auto or --device cpu"
        )
    return asked


def use_threads(number: int) -> None:
    """Compute with so many threads on a CPU; before anything is computed."""
    import torch

    torch.set_num_threads(number)
