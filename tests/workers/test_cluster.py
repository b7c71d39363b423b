"""How a cluster is shared out, and what stands in the way of having one: told in seconds, without Ray's pages."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from lmeval.errors import UsageError
from lmeval.workers import cluster
from lmeval.workers.cluster import Share, check_ray, share_out

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra `ray`")


@pytest.mark.parametrize(
    ("nodes", "asked", "device", "share"),
    [
        ([(2, 0)], 2, "auto", Share(2, 1, 0, "cpu")),
        ([(16, 0)], 3, "auto", Share(3, 5, 0, "cpu")),
        ([(16, 0)], None, "auto", Share(1, 16, 0, "cpu")),  # one a machine
        ([(16, 0), (8, 0)], None, "cpu", Share(2, 8, 0, "cpu")),
        ([(3, 0), (3, 0)], 3, "auto", Share(3, 1, 0, "cpu")),  # two cores each would not fit
        ([(16, 4), (16, 4)], None, "auto", Share(8, 4, 1, "cuda")),
        ([(16, 4), (64, 0)], 2, "cuda", Share(2, 4, 1, "cuda")),
        ([(2, 4)], 4, "auto", Share(4, 1, 1, "cuda")),
        ([(16, 4)], 8, "cpu", Share(8, 2, 0, "cpu")),
    ],
)
def test_a_gpu_each_and_an_even_share_of_the_cores(
    nodes: list[cluster.Node], asked: int | None, device: str, share: Share
) -> None:
    assert share_out(nodes, asked, device) == share


@pytest.mark.parametrize(
    ("nodes", "asked", "device", "message"),
    [
        ([(8, 2)], 3, "auto", "a GPU each, and there are 2"),
        ([(8, 0)], 9, "auto", "a core each, and there are 8"),
        ([(8, 0)], 2, "cuda", "no machine of the cluster has a GPU"),
        ([(8, 2)], 2, "cuda:1", "each worker has its own"),
        ([(8, 0)], 2, "mps", "each worker has its own"),
    ],
)
def test_less_than_one_each_is_refused(
    nodes: list[cluster.Node], asked: int, device: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        share_out(nodes, asked, device)


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        check_ray(None)
    assert caught.value.fix == "pip install 'lmeval[ray]'"
    assert caught.value.exit_code == 2


@needs_ray
@pytest.mark.parametrize("address", ["nowhere", "host:", "host:99999", "ray://host:10001", "a b:1", ":6379"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is no HOST:PORT"):
        check_ray(address)


@needs_ray
def test_an_address_where_nothing_listens_is_refused_in_seconds() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    begin = time.monotonic()
    with pytest.raises(UsageError, match=f"no Ray cluster at 127.0.0.1:{port}"):
        check_ray(f"127.0.0.1:{port}")
    assert time.monotonic() - begin < 2 * cluster.REACH_SECONDS


@needs_ray
def test_what_answers_but_is_not_ray_is_refused_in_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(UsageError, match="what answers there is not Ray"):
            check_ray(f"127.0.0.1:{server.getsockname()[1]}")


def test_folders_of_processes_that_were_killed_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cluster, "LONGEST_PLACE", 1000)
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead = tmp_path / f"{cluster.FOLDER}{int(gone.stdout)}-abc"
    living = tmp_path / f"{cluster.FOLDER}{os.getppid()}-abc"
    for folder in (dead, living):
        (folder / "session").mkdir(parents=True)
    own = Path(cluster._own_folder())
    assert own.is_dir()
    assert living.is_dir()
    assert dead.is_dir() is not Path("/proc/self").exists()


def test_a_long_path_of_temporary_files_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = Path(cluster._own_folder())
    folder.rmdir()
    assert len(str(folder)) <= 39  # Ray's longest socket adds 68 characters, and 107 is the most


def test_a_small_shared_memory_is_not_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    def free(size: int) -> None:
        monkeypatch.setattr(cluster.shutil, "disk_usage", lambda path: type("Usage", (), {"free": size}))

    free(2**32)
    assert cluster._store_place() == {}
    free(2**27)
    assert cluster._store_place() == {"object_store_memory": cluster.LEAST_STORE_BYTES}
    free(2**26)  # what a container has by default
    assert cluster._store_place() == {"_plasma_directory": tempfile.gettempdir()}
