"""Ray: a cluster of this machine alone, started here, or one that runs already and is joined.

Nothing is sent home, no dashboard runs, and what is started here listens on the loopback alone, behind a token.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmeval.errors import UsageError

STORE_BYTES = 256 * 2**20  # for requests and plans; more goes to disk
LEAST_STORE_BYTES = 80 * 2**20  # what Ray takes at the least
REACH_SECONDS = 5.0
JOIN_SECONDS = 20
FOLDER = "lmeval-ray-"
LONGEST_PLACE = 12  # characters of the folder that it is in: sockets lie in it, and their paths must fit 107

# RFC 9113, 3.4: the client's preface and an empty SETTINGS frame; the server's first frame is one, too
SETTINGS = b"\x04"
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00" + SETTINGS + b"\x00\x00\x00\x00\x00"

Node = tuple[float, float]  # its cores and its GPUs


@dataclass(frozen=True, slots=True)
class Share:
    """What each worker gets."""

    num_workers: int
    threads: int  # and as many cores
    gpus: int  # 1 or 0
    device: str


def check_ray(address: str | None) -> None:
    """See, before anything that takes long, whether there can be workers.

    Raises:
        UsageError: Ray is not installed, or nothing answers at the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--workers needs Ray, which is not installed", fix="pip install 'lmeval[ray]'")
    if address is not None:
        _check_address(address)


def join(address: str | None, num_workers: int) -> Any:
    """Ray, connected: to the cluster at `address`, or to one of this machine alone for so many workers.

    What was started stays until this process ends, so that a series starts it once.

    Raises:
        UsageError: Ray is missing, or no cluster is at the address.
    """
    check_ray(address)
    _quieten(local=address is None)
    if address is None:
        # what removes the folder is registered before Ray is imported, and so runs when Ray is down
        atexit.register(shutil.rmtree, folder := _own_folder(), ignore_errors=True)
    import ray

    if ray.is_initialized():
        return ray
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        options |= {"num_cpus": max(num_cores(), num_workers, 1), "include_dashboard": False}
        options |= {"object_store_memory": STORE_BYTES} | _store_place()
        options |= {"_temp_dir": folder}
    try:
        with warnings.catch_warnings(), _own_signals():
            warnings.simplefilter("ignore")  # what Ray deprecates of its own
            ray.init(address=address or "local", **options)
    except SystemExit:  # what Ray makes of a SIGTERM while it starts
        raise KeyboardInterrupt from None
    except Exception as error:  # it fails in many ways; all mean that there is no cluster to work with
        raise _no_cluster(address, str(error).strip().splitlines()[0] if str(error) else "") from error
    _silence_raylet()
    return ray


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of this process: Ray puts its own in their place, under which nothing is saved."""
    kept = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in kept:
            signal.signal(number, handler)


def _no_cluster(address: str | None, why: str) -> UsageError:
    if address is None:
        return UsageError(f"Ray does not start on this machine: {why}", fix="run without --workers")
    return UsageError(
        f"there is no Ray cluster at {address} that this machine can join{f': {why}' if why else ''}",
        fix="start one with `ray start --head`, run lmeval on a machine of it, and give its HOST:PORT, or auto; "
        "where Ray asks for a token (its default of late), set RAY_AUTH_MODE=token",
    )


def _check_address(address: str) -> None:
    """Refuse within seconds what cannot be a cluster; Ray itself would try for minutes."""
    if address == "auto":
        return
    found = re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", address)
    if found is None or not 0 < int(found[2]) < 65536:
        raise UsageError(
            f'--ray-address "{address}" is no HOST:PORT',
            fix="give what `ray start --head` printed, or auto for the cluster of this machine",
        )
    try:
        answers = _speaks_grpc(found[1].strip("[]"), int(found[2]))
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from error
    if not answers:
        raise _no_cluster(address, "what answers there is not Ray")


def _speaks_grpc(host: str, port: int) -> bool:
    """Whether a server answers in HTTP/2, which gRPC does; of another kind Ray would end this process."""
    with socket.create_connection((host, port), timeout=REACH_SECONDS) as connection:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return True  # it cannot be told from here
        connection.settimeout(REACH_SECONDS)
        connection.sendall(HTTP2_HELLO)
        answer = b""
        while len(answer) < 4 and (more := connection.recv(4 - len(answer))):
            answer += more
    return answer[3:4] == SETTINGS


def _quieten(*, local: bool) -> None:
    """Settings that Ray reads when it is imported; a cluster that runs already has its own."""
    environ = os.environ
    environ["RAY_USAGE_STATS_ENABLED"] = "0"
    environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # else it warns; we name the device ourselves
    environ.setdefault("RAY_gcs_server_request_timeout_seconds", str(JOIN_SECONDS))
    environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(JOIN_SECONDS))
    if local and "ray" not in sys.modules:  # else it has read them
        # Ray's own way to the loopback: else it asks the network which address this machine has, and listens there
        environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        environ["RAY_AUTH_MODE"] = "token"  # others on this machine must not be able to run code as this user
        environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _silence_raylet() -> None:
    """Keep the cluster's own messages off the terminal: deaths of workers are told by the crew, in a line."""
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *args, **options: None


def _own_folder() -> str:
    """A folder for Ray's files; those of processes that were killed are removed."""
    place = tempfile.gettempdir()
    if len(place) > LONGEST_PLACE and Path("/tmp").is_dir():
        place = "/tmp"
    for left in Path(place).glob(FOLDER + "*"):
        pid = left.name.removeprefix(FOLDER).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            with contextlib.suppress(OSError):
                if left.lstat().st_uid == os.getuid() and not left.is_symlink():
                    shutil.rmtree(left, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-", dir=place)


def _store_place() -> dict[str, Any]:
    """Where objects are shared: not in /dev/shm where that is small, as in many containers."""
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        return {}
    if free > 1.25 * STORE_BYTES:
        return {}
    if free > 1.25 * LEAST_STORE_BYTES:
        return {"object_store_memory": LEAST_STORE_BYTES}
    return {"_plasma_directory": tempfile.gettempdir()}


def num_cores() -> int:
    """The cores that one process here would compute with."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def nodes_of(ray: Any) -> list[Node]:
    """Cores and GPUs of each machine."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(float(own.get("CPU", 0)), float(own.get("GPU", 0))) for own in resources]


def share_out(nodes: Sequence[Node], asked: int | None, device: str) -> Share:
    """What each worker gets: a GPU where there are any, and an even share of the cores.

    Args:
        nodes: The machines.
        asked: How many workers; None: one a GPU, and without GPUs one a machine.
        device: As the user gave it.

    Raises:
        UsageError: There is less than one GPU, or one core, for each.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device {device} names one device, and each worker has its own",
            fix="give --device cuda or cpu, or leave it out",
        )
    gpus = int(sum(gpu for _, gpu in nodes)) if device != "cpu" else 0
    if device == "cuda" and not gpus:
        raise UsageError("--device cuda, and no machine of the cluster has a GPU", fix="leave it out")
    num_workers = asked or gpus or len(nodes)
    if gpus and num_workers > gpus:
        raise UsageError(
            f"--workers {num_workers} asks for a GPU each, and there are {gpus}",
            fix=f"give --workers {gpus}, or --device cpu",
        )
    if gpus:
        threads = min(int(cores // gpu) for cores, gpu in nodes if gpu)
        return Share(num_workers, max(1, threads), 1, "cuda")
    threads = next(_fitting(nodes, num_workers), 0)
    if not threads:
        cores = int(sum(cores for cores, _ in nodes))
        raise UsageError(
            f"--workers {num_workers} asks for a core each, and there are {cores}",
            fix=f"give --workers {cores} or fewer",
        )
    return Share(num_workers, threads, 0, "cpu")


def _fitting(nodes: Sequence[Node], num_workers: int) -> Iterator[int]:
    """Cores a worker of which so many workers fit on the machines, the most first."""
    for threads in range(int(max((cores for cores, _ in nodes), default=0)), 0, -1):
        if sum(int(cores // threads) for cores, _ in nodes) >= num_workers:
            yield threads
