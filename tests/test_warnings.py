"""Warnings: each that Python shows is one record, with its category and place, and is shown as ever."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import otelog
from otelog.testing import OTLPServer
from tests.arrivals import attributes_of, bodies, configured, fields_of, flush_record, flush_records, to_python

TRACER = TracerProvider().get_tracer("test")


class OwnWarning(UserWarning):
    pass


@pytest.fixture
def fresh() -> Iterator[None]:
    """Have every warning shown, by Python's own means, and put everything back."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = warnings._showwarning_orig  # type: ignore[attr-defined]
        impl, warnings._showwarnmsg_impl = warnings._showwarnmsg_impl, show  # type: ignore[attr-defined]
        try:
            yield
        finally:
            logging.captureWarnings(False)
            logger = logging.getLogger("py.warnings")
            logger.handlers.clear()
            logger.filters.clear()
            warnings._showwarnmsg_impl = impl  # type: ignore[attr-defined]


def show(message: Any) -> None:
    """As the standard library's, in whose place pytest has put its own."""
    sys.stderr.write(warnings._formatwarnmsg(message))  # type: ignore[attr-defined]


@pytest.fixture
def server(fresh: None) -> Iterator[OTLPServer]:
    with configured(capture_warnings=True) as one:
        yield one


def warn(text: str = "old", category: type[Warning] = DeprecationWarning) -> int:
    warnings.warn(text, category, stacklevel=2)
    return sys._getframe(1).f_lineno


def test_a_warning_is_a_record_with_category_and_the_place_that_it_names(
    server: OTLPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with TRACER.start_as_current_span("work") as span:
        line = warn("old name")
    record = flush_record(server)
    assert (to_python(record.body), record.severity_number, record.severity_text) == ("old name", 13, "WARNING")
    assert attributes_of(record) == {
        "warning.category": "DeprecationWarning",
        "code.file.path": __file__,
        "code.function.name": sys._getframe().f_code.co_name,
        "code.line.number": line,
    }
    assert record.trace_id.hex() == f"{span.get_span_context().trace_id:032x}"
    scopes = [scope.scope.name for scope in server.requests[0].decode().resource_logs[0].scope_logs]
    assert scopes == ["py.warnings"]
    assert capsys.readouterr().err.startswith(f"{__file__}:{line}: DeprecationWarning: old name\n")


def test_a_category_of_ones_own_has_its_module(server: OTLPServer) -> None:
    warn(category=OwnWarning)
    assert fields_of(flush_record(server)) == {"warning.category": f"{__name__}.OwnWarning"}


def test_standard_error_keeps_what_a_resource_warning_is_about(
    server: OTLPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    message = warnings.WarningMessage("left open", ResourceWarning, "somewhere.py", 3, source=object())
    warnings._showwarnmsg(message)  # type: ignore[attr-defined]
    assert "Enable tracemalloc" in capsys.readouterr().err
    assert attributes_of(flush_record(server)) == {
        "warning.category": "ResourceWarning",
        "code.file.path": "somewhere.py",
        "code.function.name": "",
        "code.line.number": 3,
    }


def test_filters_stay_as_they_are(server: OTLPServer) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warn("caught")
    assert [str(one.message) for one in caught] == ["caught"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DeprecationWarning):
            warn("raised")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warn("ignored")
    with warnings.catch_warnings():
        warnings.simplefilter("once")
        for _ in range(3):
            warn("once")
    assert bodies(flush_records(server)) == ["once"]


class Sees(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


@pytest.mark.parametrize("order", ["logging first", "otelog first"])
def test_beside_logging_it_is_once_and_other_handlers_have_their_text(
    fresh: None, order: str, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = Sees()
    logging.getLogger().addHandler(handler)
    if order == "logging first":
        logging.captureWarnings(True)
    try:
        with configured(capture_warnings=True) as server:
            logging.captureWarnings(True)
            line = warn("old name")
            record = flush_record(server)
            assert to_python(record.body) == "old name"
            assert attributes_of(record)["code.line.number"] == line
            (seen,) = handler.seen
            assert seen.getMessage().startswith(f"{__file__}:{line}: DeprecationWarning: old name\n")
            # The place of the call as it is without otelog.
            assert (seen.pathname, seen.funcName) == (warnings.__file__, "_showwarnmsg")
            logging.getLogger("py.warnings").warning("by hand")
            assert bodies(flush_records(server)) == ["old name", "by hand"]
            assert capsys.readouterr().err == ""
            logging.captureWarnings(False)
            warn("after")
            assert bodies(flush_records(server))[2:] == ["after"]
            assert "DeprecationWarning: after" in capsys.readouterr().err
    finally:
        logging.getLogger().removeHandler(handler)
    assert warnings.showwarning is warnings._showwarning_orig  # type: ignore[attr-defined]


def test_an_earlier_function_is_called_once_with_what_it_would_have_got(fresh: None) -> None:
    calls: list[tuple[Any, ...]] = []
    warnings.showwarning = lambda *args, **kwargs: calls.append((*args, kwargs))
    earlier = warnings.showwarning
    with configured(capture_warnings=True) as server:
        line = warn("old name")
        warnings.showwarning("to a file", UserWarning, "x.py", 1, file=sys.stdout)
        assert bodies(flush_records(server)) == ["old name"]
    assert [(str(call[0]), *call[1:]) for call in calls] == [
        ("old name", DeprecationWarning, __file__, line, None, None, {}),
        ("to a file", UserWarning, "x.py", 1, sys.stdout, None, {}),
    ]
    assert warnings.showwarning is earlier


def test_the_level_of_the_logger_turns_them_off(server: OTLPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("py.warnings"), "level", logging.ERROR)
    warn()
    assert flush_records(server) == []


def test_a_hostile_warning_is_a_record_and_is_shown(server: OTLPServer, capsys: pytest.CaptureFixture[str]) -> None:
    class Nested(UserWarning):
        def __str__(self) -> str:
            logging.getLogger("nested").info("from __str__")
            return "nested"

    warnings.showwarning(Nested(), Nested, "x.py", 1)
    warnings.showwarning("huge " + "x" * 10_000_000, UserWarning, "x.py", "no line")  # type: ignore[arg-type]
    shown = [body for body in bodies(flush_records(server)) if body != "from __str__"]
    assert shown[0] == "nested" and shown[1].startswith("huge")
    assert "Nested: nested" in capsys.readouterr().err


def test_without_the_option_and_after_shutdown_nothing_is_in_the_way(fresh: None) -> None:
    before = warnings.showwarning, logging._showwarning  # type: ignore[attr-defined]
    with configured():
        assert (warnings.showwarning, logging._showwarning) == before  # type: ignore[attr-defined]
    with configured(capture_warnings=True):
        assert warnings.showwarning is not before[0]
        otelog.shutdown()
        assert (warnings.showwarning, logging._showwarning) == before  # type: ignore[attr-defined]
        warn()
        assert otelog.stats().lost == 0


def test_threads_and_nested_warnings_are_not_taken_for_one_another(server: OTLPServer) -> None:
    logging.captureWarnings(True)
    threads = [threading.Thread(target=warn, args=(f"thread {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    class Warns(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "outer" in record.getMessage():
                warn("inner")

    handler = Warns()
    logging.getLogger().addHandler(handler)
    try:
        warn("outer")
    finally:
        logging.getLogger().removeHandler(handler)
    assert sorted(bodies(flush_records(server))) == ["inner", "outer", *(f"thread {number}" for number in range(8))]
