"""The journal: what was put comes back, whatever happened to the file."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest

from lmeval import journal as journal_module
from lmeval import locks
from lmeval.engine.base import Usage
from lmeval.errors import StoreError
from lmeval.journal import Journal, Stage
from lmeval.records import GenerationOutput, HeadOutput, ScoreOutput, TokenScore
from lmeval.store import Output

TOKENS = (TokenScore("a ", -1.5, 2, (("b", -0.5), ("a ", -1.5))), TokenScore("\u2028", -0.25, 1, ()))
OUTPUTS: list[Output] = [
    ScoreOutput(-1.2345678901234567, True, 3, truncated=True, tokens=TOKENS),
    ScoreOutput(-0.1 - 0.2, False, 1, rank=7),
    GenerationOutput("naïve \ud800 \u2028\n\0", "stop", 4),
    HeadOutput((0.1, -1e-300, 3.0), 5, True),
]
KEYS = [f"{number:064x}" for number in range(20)]


def outputs(count: int = len(KEYS)) -> list[Output]:
    return [OUTPUTS[number % len(OUTPUTS)] for number in range(count)]


def grown(usage: Usage) -> Usage:
    usage.tokens_requested += 3
    usage.tokens_distinct += 2
    usage.tokens_computed += 2
    usage.tokens_planned = 2 * len(KEYS)
    usage.seconds_model += 0.5
    return usage


def filled(
    path: Path, count: int = len(KEYS), made: list[Output] | None = None
) -> tuple[Journal, Stage, Usage]:
    """A journal of a stage whose first outputs are there."""
    journal, usage = Journal(path, "run"), Usage()
    stage = journal.begin(KEYS, usage)
    stage.give({})
    for index, output in enumerate((made or outputs())[:count]):
        stage.put(index, output, grown(usage))
    return journal, stage, usage


def test_outputs_come_back_as_they_were(tmp_path: Path) -> None:
    journal, _, _ = filled(tmp_path / "new" / "j")
    assert journal.get([*KEYS, "c"]) == dict(zip(KEYS, outputs(), strict=True))
    journal.close()
    again = Journal(tmp_path / "new" / "j", "run")
    stage = again.begin(KEYS, Usage())
    assert stage.done == dict(enumerate(outputs())) and stage.has_begun and not again.num_damaged
    assert again.begin(KEYS[:3], Usage()).done == dict(enumerate(outputs(3)))  # another stage, by key
    again.close()


def test_what_the_cache_gave_comes_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "run")
    journal.begin(KEYS, Usage()).give({3: OUTPUTS[0], 5: OUTPUTS[2]})
    journal.close()
    stage = Journal(tmp_path / "j", "run").begin(KEYS, Usage())
    assert (stage.num_given, stage.done) == (2, {3: OUTPUTS[0], 5: OUTPUTS[2]})


def test_equal_requests_of_a_stage_are_asked_and_counted_one_by_one(tmp_path: Path) -> None:
    keys = ["a", "b", "a"]
    journal, usage = Journal(tmp_path / "j", "run"), Usage()
    stage = journal.begin(keys, usage)
    stage.give({})
    stage.put(0, OUTPUTS[0], usage)
    journal.close()
    again = Journal(tmp_path / "j", "run")
    assert set(again.begin(keys, Usage()).done) == {0}
    again.close()


@pytest.mark.parametrize("made", [OUTPUTS[1], OUTPUTS[2]], ids=["scores", "texts"])
def test_totals_are_those_of_a_run_that_was_never_cut_off(tmp_path: Path, made: Output) -> None:
    all_made = [made] * len(KEYS)
    journal, stage, usage = filled(tmp_path / "whole", made=all_made)
    stage.end(usage)
    expected = journal.total(usage)
    journal.close()
    before, _, _ = filled(tmp_path / "cut", 7, made=all_made)
    before.close()
    after, usage = Journal(tmp_path / "cut", "run"), Usage()
    stage = after.begin(KEYS, usage)
    for index in range(7, len(KEYS)):
        stage.put(index, made, grown(usage))
    usage.tokens_computed += 5  # a row, or the steps of a text, that was cut off is computed again
    usage.tokens_planned = 31
    stage.end(usage)
    total = after.total(usage)
    assert (total.tokens_requested, total.tokens_distinct) == (3 * len(KEYS), 2 * len(KEYS))
    assert total.tokens_computed - expected.tokens_computed == (5 if made is OUTPUTS[2] else 0)
    assert total.seconds_model == pytest.approx(expected.seconds_model)
    assert after.seconds() >= 0
    after.close()


def test_a_stage_that_is_done_tells_what_the_engine_found_out_about_itself(tmp_path: Path) -> None:
    journal, usage = Journal(tmp_path / "j", "run"), Usage(path="packed")
    stage = journal.begin(KEYS[:2], usage)
    stage.give({})
    stage.put(0, OUTPUTS[0], usage)
    usage.path, usage.note = "plain", "windows of 300 tokens"
    stage.put(1, OUTPUTS[0], usage)
    journal.close()
    again, usage = Journal(tmp_path / "j", "run"), Usage(path="packed")
    again.begin(KEYS[:2], usage).end(usage)
    assert (usage.path, usage.note) == ("plain", "windows of 300 tokens")


def test_every_cut_keeps_what_lies_before_it(tmp_path: Path) -> None:
    """A machine that loses its power may leave any part of what was not synced."""
    journal, _, _ = filled(tmp_path / "j", 6)
    journal.close()
    content = (tmp_path / "j").read_bytes()
    lines = content.split(b"\n")
    for size in range(0, len(content), 7):
        (tmp_path / "cut").write_bytes(content[:size])
        whole = content[:size].count(b"\n") + (content[:size].split(b"\n")[-1] in lines[:-1])
        cut = Journal(tmp_path / "cut", "run")
        stage = cut.begin(KEYS, Usage())
        assert stage.done == dict(enumerate(outputs(max(0, whole - 2))))
        stage.put(19, OUTPUTS[1], Usage())  # and it can be gone on with
        cut.close()
        again = Journal(tmp_path / "cut", "run")
        assert not again.num_damaged and 19 in again.begin(KEYS, Usage()).done
        again.close()


@pytest.mark.parametrize("seed", range(20))
def test_damage_costs_what_it_hit_and_is_told_once(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    journal, _, _ = filled(tmp_path / "j")
    journal.close()
    content = bytearray((tmp_path / "j").read_bytes())
    begin, size = rng.randrange(len(content)), rng.choice((1, 20, 400))
    content[begin : begin + size] = rng.choice((b"\0", b"\xff", b"\n", b"7")) * len(
        content[begin : begin + size]
    )
    (tmp_path / "j").write_bytes(bytes(content))
    damaged = Journal(tmp_path / "j", "run")
    done = damaged.begin(KEYS, Usage()).done
    assert all(done[index] == outputs()[index] for index in done)  # nothing false is believed
    assert len(done) >= len(KEYS) - 2 - size // 30
    damaged.close()
    again = Journal(tmp_path / "j", "run")
    assert again.num_damaged == 0
    again.close()


@pytest.mark.parametrize("content", [b"no journal at all\n" * 100, b"\0" * 4096, b"00000000 {}\n", b"\n\n"])
def test_what_is_no_journal_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    journal = Journal(tmp_path / "j", "run")
    assert journal.begin(KEYS, Usage()).done == {}
    journal.close()


def test_a_journal_in_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used"):
        Journal(tmp_path / "file" / "j")


def test_a_full_disk_is_one_message_and_what_was_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, stage, usage = filled(tmp_path / "j", 5)
    write = os.write

    def short(descriptor: int, content: Any) -> int:
        if len(content) < 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content[:60])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        with pytest.raises(StoreError, match="cannot be written: No space left") as error:
            stage.put(5, OUTPUTS[0], usage)
    assert "what was scored before is kept" in str(error.value.fix)
    journal.close()
    again = Journal(tmp_path / "j", "run")
    assert again.num_damaged == 1 and set(again.begin(KEYS, Usage()).done) == set(range(5))
    again.close()


def test_it_is_synced_often_and_for_a_thousandth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, cost, synced = 0.0, 0.003, []

    def fsync(descriptor: int) -> None:
        nonlocal now
        synced.append(now)
        now += cost

    journal, stage, usage = filled(tmp_path / "j", 0)
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: now)
    monkeypatch.setattr(os, "fsync", fsync)
    journal._synced = 0.0
    for number in range(2000):
        now += 0.01
        stage.put(number % len(KEYS), OUTPUTS[1], usage)
    assert len(synced) >= 5 and len(synced) * cost <= 0.0012 * now
    now += 100.0
    stage.put(0, OUTPUTS[1], usage)
    assert synced[-1] == pytest.approx(now - cost)  # a batch that took long is on disk at once
    journal.close()


# ---- one process at a time ----


def test_a_second_journal_names_the_process_that_has_the_first(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j")
    with pytest.raises(StoreError, match=f"^process {os.getpid()} is doing this run now"):
        Journal(tmp_path / "j")
    first.close()
    Journal(tmp_path / "j").close()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", flock)


@pytest.mark.usefixtures("no_locks")
def test_a_lock_file_serves_where_the_file_system_has_no_locks(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j")
    with pytest.raises(StoreError, match=f"^process {os.getpid()} is doing this run now"):
        Journal(tmp_path / "j")
    first.close()
    assert [path.name for path in tmp_path.iterdir()] == ["j"]


@pytest.mark.usefixtures("no_locks")
def test_a_stale_lock_file_is_taken_over_unless_it_is_another_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Journal(tmp_path / "j")
    monkeypatch.setattr(locks, "is_alive", lambda pid: False)
    second = Journal(tmp_path / "j")  # as if the first had been killed
    monkeypatch.setattr(locks.socket, "gethostname", lambda: "elsewhere")
    with pytest.raises(StoreError, match=f"^process {os.getpid()} on .* is doing this run now"):
        Journal(tmp_path / "j")
    second.close()
    first.close()


def test_processes_are_alive_or_not() -> None:
    assert locks.is_alive(os.getpid()) and locks.is_alive(1)
    assert not locks.is_alive(2**22 + 1)
