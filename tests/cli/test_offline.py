"""`--offline` opens no connection, and what is local needs none: seen by a hook on every socket of the process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmeval.documents import Documents
from lmeval.mirror import write_mirror
from lmeval.offline import OfflineError, end_offline, go_offline
from lmeval.specs import DatasetSpec
from tests.canned import write_task
from tests.cli.command import ROOT
from tests.fine_tuned import untrained
from tests.test_mirror import TASK, rows_of

# Every attempt is written down and fails; then each command runs in turn, as in processes of their own
RECORDER = """
import json, sys
attempts = []
def record(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname",
                 "socket.gethostbyaddr", "urllib.Request", "http.client.connect"):
        if event == "socket.connect" and not isinstance(arguments[1], tuple):
            return
        attempts.append([event, repr(arguments)[:200]])
        raise ConnectionError("blocked by the test")
sys.addaudithook(record)
codes = []
for line in json.loads(sys.argv[1]):
    from lmeval.cli import main
    sys.argv = ["lmeval", *line]
    before = len(attempts)
    try:
        main()
        codes.append([0, attempts[before:]])
    except SystemExit as end:
        codes.append([end.code or 0, attempts[before:]])
import os
names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
json.dump([codes, {name: os.environ.get(name) for name in names}], open("found.json", "w"))
"""
Codes = list[tuple[int, list[list[str]]]]


def watched(lines: Sequence[Sequence[str]], folder: Path) -> tuple[Codes, dict[str, str | None]]:
    """Run commands in one process with a hook on its sockets; exit codes with what was attempted, and switches."""
    environment = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        environment.pop(name, None)
    command = [sys.executable, "-c", RECORDER, json.dumps(lines)]
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (folder / "found.json").exists(), ran.stderr
    found, switches = json.loads((folder / "found.json").read_text())
    return [(code, attempts) for code, attempts in found], switches


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mirror, a local task, a task of the hub and a classifier."""
    (tmp_path / "hubbed.yaml").write_text(TASK)
    for split in ("test", "train"):
        dataset = DatasetSpec(path="owner/data", name="conf", split=split)
        write_mirror(Documents(rows_of(6), "here"), dataset, split, tmp_path / "mirror", "c0ffee")
    write_task(tmp_path, "classification")
    write_task(tmp_path, "qa")
    untrained(tmp_path / "classifier", "BertForSequenceClassification", ["a b", "good bad"])
    return tmp_path


def lines_of(*more: str) -> list[list[str]]:
    """Every command that reads a model, data or runs."""
    run = ["run", "--quiet", "--limit", "4", "--data-root", "mirror", "--no-cache", *more]
    return [
        [
            *run,
            "--model",
            "demo",
            "--tasks",
            "./hubbed.yaml,./my_classification.yaml,./my_qa.yaml",
            "--output",
            "a",
        ],
        [*run, "--model", "demo-masked", "--tasks", "demo_cloze", "--output", "b"],
        [*run, "--model", "demo-seq2seq", "--tasks", "demo_translation", "--output", "b"],
        [
            "gate",
            "--model",
            "demo",
            "--tasks",
            "demo_cloze",
            "--limit",
            "4",
            "--baseline",
            "b/demo-masked",
            *more,
        ],
        ["inspect", "--model", "demo", "--text", "Anna sees Ben.", *more],
        ["tasks", "show", "./hubbed.yaml", "--data-root", "mirror", *more],
    ]


READERS = [
    ["tasks", "list"],
    ["tasks", "validate", "hubbed.yaml"],
    ["gate", "a", "--baseline", "a"],
    ["compare", "a", "a"],
    ["leaderboard", ".", "--output", "board.html"],
    ["report", "a", "--output", "page.html"],
    ["export", "a", "--format", "lm-eval", "--output", "exported"],
    ["baseline", "save", "a", "baseline.json"],
    ["plan", "a"],
]


def test_offline_opens_no_connection(folder: Path) -> None:
    hub = ["run", "--quiet", "--offline", "--output", "c"]
    lines = [
        *lines_of("--offline"),
        *READERS,
        [*hub, "--model", "org/model", "--tasks", "demo_cloze"],
        [*hub, "--model", "demo", "--tasks", "./hubbed.yaml"],  # a data set that is nowhere
        [*hub, "--model", "demo", "--tasks", "lambada", "--data-root", "mirror"],
    ]
    codes, switches = watched(lines, folder)
    assert [attempts for _, attempts in codes] == [[]] * len(lines)
    wanted = [0, 0, 0, 11, 0, 0, *[0, 0, 11, 0, 0, 0, 0, 0, 0], 2, 2, 2]
    assert [code for code, _ in codes] == wanted
    assert set(switches.values()) == {"1"}


def test_what_is_local_needs_no_connection(folder: Path) -> None:
    local = lines_of()
    lines = [*local[:3], [*local[1], "--model", "classifier", "--tasks", "./my_classification.yaml"]]
    codes, switches = watched(lines, folder)
    assert [attempts for _, attempts in codes] == [[]] * len(lines)
    assert [code for code, _ in codes][:3] == [0, 0, 0]
    assert switches["HF_HUB_OFFLINE"] is None
    assert switches["HF_HUB_DISABLE_TELEMETRY"] == switches["DO_NOT_TRACK"] == "1"


@pytest.fixture
def listener() -> Iterator[Any]:
    """A server of this machine, and whom it has met."""
    met: list[object] = []
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, address = server.accept()
            except OSError:
                return
            met.append(address)
            connection.close()

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname(), met
    server.close()


def test_whatever_tries_is_stopped(listener: Any) -> None:
    """A metric's code, say, that the user trusts otherwise."""
    address, met = listener
    try:
        go_offline()
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            for attempt in (
                lambda: socket.create_connection(address),
                lambda: stream.connect(address),
                lambda: socket.getaddrinfo("localhost", 80),
                lambda: socket.gethostbyname("localhost"),
                lambda: datagram.sendto(b"x", address),
            ):
                with pytest.raises(OfflineError, match="no connection to"):
                    attempt()
        left, right = socket.socketpair()  # within the process
        left.send(b"x")
        assert right.recv(1) == b"x"
        left.close()
        right.close()
        go_offline(but={"127.0.0.1"})
        socket.create_connection(address).close()
    finally:
        end_offline()
    socket.create_connection(address).close()
    assert len(met) <= 2
