"""No connections where the user wants none, and no telemetry ever.

The libraries read their switches when they are imported, so these are set before. Whatever tries all the same is
stopped by a hook of the interpreter's own, which sees every socket of Python code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import Any

# Read once, by huggingface_hub, transformers, datasets and evaluate
_SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE")
_TELEMETRY_OFF = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # evaluate counts the metrics that are loaded
    "RAY_USAGE_STATS_ENABLED": "0",
}
# module, and what it has read
_LOADED = (
    ("huggingface_hub.constants", "HF_HUB_OFFLINE"),
    ("datasets.config", "HF_HUB_OFFLINE"),
    ("evaluate.config", "HF_EVALUATE_OFFLINE"),
)
# what leads out, with the place of the address among the event's arguments
_EVENTS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
}
_state: dict[str, Any] = {"hooked": False, "refuse": False, "but": frozenset()}


class OfflineError(ConnectionError):
    """A connection that --offline has stopped; libraries take it for a network that is not there."""


def no_telemetry() -> None:
    """Tell the libraries to report nothing; before they are imported."""
    os.environ.update(_TELEMETRY_OFF)


def go_offline(but: Collection[str] = ()) -> None:
    """Tell the libraries that there is no network, and stop every connection that Python code tries.

    Args:
        but: Hosts that may be connected to, such as those of workers.
    """
    os.environ.update(dict.fromkeys(_SWITCHES, "1"))
    for module, name in _LOADED:
        if module in sys.modules:
            setattr(sys.modules[module], name, True)
    _state.update(refuse=True, but=frozenset(but))
    if not _state["hooked"]:
        sys.addaudithook(_stop)
        _state["hooked"] = True


def end_offline() -> None:
    """Let connections pass again, for what else goes on in this process."""
    _state["refuse"] = False


def _stop(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _EVENTS or not _state["refuse"]:
        return
    address = arguments[_EVENTS[event]]
    host = address[0] if isinstance(address, tuple) and event != "socket.getaddrinfo" else address
    # a socket within the machine has a file's name or a number in place of a host
    if not isinstance(host, str) or (event == "socket.connect" and not isinstance(address, tuple)):
        return
    if host not in _state["but"]:
        raise OfflineError(f"--offline: no connection to {host}")
