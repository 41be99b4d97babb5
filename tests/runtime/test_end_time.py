"""The one time that the end of a process may wait: what is taken off it, and who has what."""

from __future__ import annotations

import threading
import time

import pytest

from otelog._runtime.end_time import EndTime

SPENT = 0.05


def make(total: float) -> EndTime:
    end = EndTime()
    end.renew(total)
    return end


def pass_time(seconds: float = SPENT) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def seconds_until(deadline: float) -> float:
    return deadline - time.monotonic()


def test_what_one_has_waited_the_next_has_less_but_not_what_lies_in_between() -> None:
    end = make(60.0)
    with end.spend() as deadline:
        assert 59 < seconds_until(deadline) <= 60
        pass_time()
    left = end.left()
    assert left <= 60 - SPENT
    pass_time()
    assert end.left() == left
    with end.spend() as deadline:
        assert seconds_until(deadline) <= 60 - SPENT


def test_one_wait_inside_of_another_is_one_wait() -> None:
    end = make(60.0)
    with end.spend() as outer:
        pass_time()
        with end.spend() as inner:
            pass_time()
        # The same moment, but for the instructions in between.
        assert abs(outer - inner) < SPENT
    assert 59 < end.left() <= 60 - 2 * SPENT


def test_no_time_is_left_at_last() -> None:
    end = make(SPENT)
    with end.spend():
        pass_time(2 * SPENT)
        assert end.left() == 0
    with end.spend() as deadline:
        assert seconds_until(deadline) <= 0
    end.renew()
    assert end.left() == SPENT


def test_the_application_has_what_it_asks_for_unless_the_process_ends() -> None:
    end = make(10.0)
    with end.spend(60.0) as deadline:
        assert seconds_until(deadline) > 59
        pass_time()
    # More than everything is its own affair.
    assert end.left() == 10
    with end.spend(1.0):
        pass_time()
    assert end.left() <= 10 - SPENT
    with end.spend(), end.spend(60.0) as deadline:
        assert seconds_until(deadline) <= 10 - SPENT


def test_a_handler_on_top_of_a_wait_is_called_back_when_it_is_over() -> None:
    end = make(10.0)
    calls: list[str] = []
    assert not end.call_when_over(lambda: calls.append("nobody waits"))
    with end.spend():
        assert end.call_when_over(lambda: calls.append("over"))
        thread = threading.Thread(target=lambda: calls.append(str(end.call_when_over(calls.clear))))
        thread.start()
        thread.join()
        with end.spend():
            pass
        assert calls == ["False"]
    assert calls == ["False", "over"]
    with pytest.raises(KeyError), end.spend():
        assert end.call_when_over(lambda: calls.append("raised"))
        raise KeyError
    assert calls[2:] == ["raised"]
