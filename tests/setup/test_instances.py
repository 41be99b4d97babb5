"""A process is one instance, whichever of its threads asks first."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource

from otelog._setup.providers import ResourceOfProcess

DEADLINE = 30.0
ID = "service.instance.id"


class Slow(Resource):
    """The first to merge it is slow."""

    def __init__(self, attributes: Any) -> None:
        super().__init__(attributes)
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def merge(self, other: Resource) -> Resource:
        if not self.begun.is_set():
            self.begun.set()
            self.may_go_on.wait(DEADLINE)
        return super().merge(other)


def in_child(work: Callable[[], str]) -> str:
    """Returns what a forked child has to say."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it is about forked children; Windows cannot fork")
def test_threads_of_a_child_that_ask_at_once_are_told_the_same_new_id() -> None:
    resource = Slow({ID: "parent"})
    of_process = ResourceOfProcess(resource)
    assert of_process() is resource

    def ask_twice() -> str:
        ids: list[Any] = []
        first = threading.Thread(target=lambda: ids.append(of_process().attributes[ID]))
        first.start()
        resource.begun.wait(DEADLINE)
        ids.append(of_process().attributes[ID])
        resource.may_go_on.set()
        first.join()
        return " ".join(ids)

    one, other = in_child(ask_twice).split(" ")
    assert one == other != "parent"
