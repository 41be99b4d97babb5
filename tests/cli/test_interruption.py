"""Ctrl-C and its like: at once, or when what must be finished has been."""

from __future__ import annotations

import signal
import threading

import pytest

from otelog.cli.show.interruption import deferred, stopping

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_stops_what_runs(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stopping():
        signal.raise_signal(number)
        pytest.fail("it went on")
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", NUMBERS)
def test_what_must_be_finished_is_before_a_signal_stops_it(number: signal.Signals) -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), stopping(), deferred():
        signal.raise_signal(number)
        signal.raise_signal(number)
        done = True
    assert done


def test_a_signal_is_not_lost_where_the_block_fails() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, stopping(), deferred():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError
    assert isinstance(caught.value.__context__, ValueError)


def test_without_a_signal_or_in_another_thread_nothing_happens() -> None:
    seen = []

    def work() -> None:
        with deferred():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    with deferred():
        assert signal.getsignal(signal.SIGTERM) is not before
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before] == [signal.getsignal(signal.SIGTERM)]
