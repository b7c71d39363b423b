"""Signals wait for the batch in flight, once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lmeval import stopping


def test_outside_of_batches_a_signal_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt):
        stopping.ask()
    stopping.check()


def _asked(then: Callable[[], None]) -> None:
    with stopping.finishing_batches():
        stopping.ask()
        assert stopping.is_asked()
        then()


def test_the_first_signal_waits_and_the_second_does_not(capfd: pytest.CaptureFixture[str]) -> None:
    with stopping.finishing_batches():
        stopping.check()
    with pytest.raises(KeyboardInterrupt) as error:
        _asked(stopping.ask)
    assert type(error.value) is KeyboardInterrupt and not stopping.is_asked()
    assert "once more stops at once" in capfd.readouterr().err
    with pytest.raises(stopping.Stopped):
        _asked(stopping.check)


def test_who_was_asked_in_the_last_batch_stops_behind_it() -> None:
    with pytest.raises(stopping.Stopped), stopping.finishing_batches():
        stopping.ask()


def test_what_can_be_stopped_at_once_is() -> None:
    with pytest.raises(KeyboardInterrupt) as error, stopping.finishing_batches(), stopping.at_once():
        stopping.ask()
    assert type(error.value) is KeyboardInterrupt
    with stopping.finishing_batches():
        with stopping.at_once():
            pass
        stopping.check()
