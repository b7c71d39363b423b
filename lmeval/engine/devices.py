"""The device that a model runs on, or the devices that it is spread over."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from typing import Any

from lmeval.errors import ModelError, UsageError

SPREAD = "auto"  # the one value of --device-map
OFFLOADED = ("cpu", "disk")  # places that hold weights which another device computes with


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


def check_device_map(device_map: str | None, device: str) -> None:
    """Refuse what cannot be spread over devices.

    Raises:
        UsageError: There is no such map, or --device names the one device beside it.
        ModelError: accelerate, which spreads models, is not installed.
    """
    if device_map is None:
        return
    if device_map != SPREAD:
        raise UsageError(f'"{device_map}" is no device map', fix=f"--device-map takes {SPREAD}")
    if device != "auto":
        raise UsageError(
            f"--device {device} names one device, and --device-map {SPREAD} chooses them", fix="leave out one"
        )
    if find_spec("accelerate") is None:
        raise ModelError("--device-map needs the accelerate package", fix="pip install accelerate")


def is_spread(model: Any) -> bool:
    """Whether parts of a model lie in different places, or on the disk, and accelerate brings them together."""
    places = set((getattr(model, "hf_device_map", None) or {}).values())
    return len(places) > 1 or "disk" in places


def device_of(model: Any) -> Any:
    """The torch device that inputs go to, and that computes the first layer."""
    import torch

    places = list((getattr(model, "hf_device_map", None) or {}).values())
    computing = [place for place in places if place not in OFFLOADED]
    if computing:
        return torch.device(computing[0])
    if places:  # what lies on the disk is computed with on the host
        return torch.device("cpu")
    return next(model.parameters()).device


def parts_of(model: Any) -> dict[str, int] | None:
    """How many parts of a spread model lie in each place, as accelerate names places; None for a model in one."""
    if not is_spread(model):
        return None
    found = Counter(
        str(place) if isinstance(place, str) else f"cuda:{place}" for place in model.hf_device_map.values()
    )
    return dict(found)
