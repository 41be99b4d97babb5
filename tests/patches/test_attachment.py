"""Whatever an application does to `logging`, each of its records arrives exactly once."""

from __future__ import annotations

import io
import logging
import logging.config
import logging.handlers
import os
import queue
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import _logs
from opentelemetry.instrumentation.logging.handler import LoggingHandler as ForeignHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

import otelog
from otelog._setup import configure as configure_module
from otelog.testing import OTLPServer
from tests.arrivals import bodies, configured, flush_records
from tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("", "shop", "shop.web", "shop.web.access", "audit", "library")


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """Give the loggers of these tests, and the root, back their state."""
    known = [logging.getLogger(name) for name in NAMES]
    before = [
        (logger, list(logger.handlers), logger.level, logger.propagate, logger.disabled, list(logger.filters))
        for logger in known
    ]
    yield
    for logger, handlers, level, propagate, disabled, filters in before:
        logger.handlers, logger.level, logger.propagate = handlers, level, propagate
        logger.disabled, logger.filters = disabled, filters
        logger.manager._clear_cache()
    # `disable_existing_loggers` is for all loggers, those of other tests in this process as well.
    for other in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(other, logging.Logger):
            other.disabled = False


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with configured(level="DEBUG") as server:
        yield server


class Shown(logging.StreamHandler):  # type: ignore[type-arg]
    """A handler of the application's own."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())


def say(*names: str) -> list[str]:
    """Log once with each of these loggers, and return what."""
    said = []
    for name in names:
        logging.getLogger(name or None).warning("from %s", name)
        said.append(f"from {name}")
    return said


# What applications do, each with the loggers whose records must arrive.


def basic_config() -> None:
    logging.basicConfig(level=logging.DEBUG)


def basic_config_by_force() -> None:
    logging.basicConfig(level=logging.DEBUG, force=True)


def dict_config() -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler", "stream": io.StringIO()}},
            "loggers": {"shop": {"level": "DEBUG"}},
            "root": {"handlers": ["console"], "level": "DEBUG"},
            "disable_existing_loggers": False,
        }
    )


def dict_config_that_disables_others() -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler", "stream": io.StringIO()}},
            "loggers": {name: {} for name in NAMES if name},
            "root": {"handlers": ["console"], "level": "DEBUG"},
        }
    )


def dict_config_as_uvicorn_has_it() -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "default": {"class": "logging.StreamHandler", "stream": io.StringIO()},
                "access": {"class": "logging.StreamHandler", "stream": io.StringIO()},
            },
            "loggers": {
                "shop": {"handlers": ["default"], "level": "INFO", "propagate": False},
                "shop.web": {"level": "INFO"},
                "shop.web.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
            },
        }
    )


def dict_config_of_the_root_alone_without_handlers() -> None:
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "root": {"handlers": []}})


def incremental_dict_config() -> None:
    logging.config.dictConfig({"version": 1, "incremental": True, "root": {"level": "DEBUG"}})


def file_config() -> None:
    logging.config.fileConfig(
        io.StringIO(
            textwrap.dedent("""
            [loggers]
            keys=root,shop
            [handlers]
            keys=console
            [formatters]
            keys=
            [logger_root]
            level=DEBUG
            handlers=console
            [logger_shop]
            qualname=shop
            handlers=console
            propagate=0
            [handler_console]
            class=StreamHandler
            args=(sys.stdout,)
            """)
        ),
        disable_existing_loggers=False,
    )


def loop_that_takes_handlers_off() -> None:
    root = logging.getLogger()
    while root.handlers:
        root.removeHandler(root.handlers[0])
    root.addHandler(Shown())


def list_that_is_emptied_and_filled() -> None:
    root = logging.getLogger()
    root.handlers.clear()
    root.addHandler(Shown())


def list_that_is_replaced() -> None:
    logging.getLogger().handlers = [Shown()]


def list_that_is_replaced_by_nothing() -> None:
    logging.getLogger().handlers = []


def own_handlers_and_no_propagation() -> None:
    shop = logging.getLogger("shop")
    shop.addHandler(Shown())
    shop.propagate = False
    audit = logging.getLogger("audit")
    audit.propagate = False
    audit.addHandler(Shown())


def no_propagation_above_a_logger_with_handlers() -> None:
    logging.getLogger("shop.web").addHandler(Shown())
    logging.getLogger("shop").propagate = False


def no_propagation_and_back() -> None:
    shop = logging.getLogger("shop")
    shop.addHandler(Shown())
    shop.propagate = False
    shop.propagate = True


def handlers_of_one_logger_for_another() -> None:
    # As applications do it with gunicorn's.
    audit, shop = logging.getLogger("audit"), logging.getLogger("shop")
    audit.addHandler(Shown())
    audit.propagate = False
    shop.handlers = audit.handlers


def handlers_of_one_logger_added_to_another() -> None:
    audit, shop = logging.getLogger("audit"), logging.getLogger("shop")
    audit.addHandler(Shown())
    audit.propagate = False
    for handler in audit.handlers:
        shop.addHandler(handler)
    logging.getLogger("library").handlers = logging.getLogger().handlers[:]


def roots_handlers_for_a_logger_that_does_not_propagate() -> None:
    shop = logging.getLogger("shop")
    for handler in logging.getLogger().handlers:
        shop.addHandler(handler)
    shop.propagate = False
    shop.addHandler(Shown())


def foreign_handler_on_the_root() -> None:
    logging.getLogger().addHandler(ForeignHandler())


def foreign_handler_on_a_logger() -> None:
    logging.getLogger("shop").addHandler(ForeignHandler(level=logging.DEBUG))


def foreign_handler_on_a_logger_that_does_not_propagate() -> None:
    shop = logging.getLogger("shop")
    shop.addHandler(ForeignHandler())
    shop.propagate = False


SETUPS: list[Callable[[], None]] = [
    basic_config,
    basic_config_by_force,
    dict_config,
    dict_config_that_disables_others,
    dict_config_as_uvicorn_has_it,
    dict_config_of_the_root_alone_without_handlers,
    incremental_dict_config,
    file_config,
    loop_that_takes_handlers_off,
    list_that_is_emptied_and_filled,
    list_that_is_replaced,
    list_that_is_replaced_by_nothing,
    own_handlers_and_no_propagation,
    no_propagation_above_a_logger_with_handlers,
    no_propagation_and_back,
    handlers_of_one_logger_for_another,
    handlers_of_one_logger_added_to_another,
    roots_handlers_for_a_logger_that_does_not_propagate,
    foreign_handler_on_the_root,
    foreign_handler_on_a_logger,
    foreign_handler_on_a_logger_that_does_not_propagate,
]


@pytest.mark.parametrize("set_up", SETUPS)
def test_every_record_arrives_once_after(set_up: Callable[[], None], server: OTLPServer) -> None:
    set_up()
    said = say(*NAMES)
    assert sorted(bodies(flush_records(server))) == sorted(said)


@pytest.mark.parametrize("set_up", SETUPS)
def test_every_record_arrives_once_when_configured_after(set_up: Callable[[], None]) -> None:
    set_up()
    with configured(level="DEBUG") as server:
        said = say(*NAMES)
        assert sorted(bodies(flush_records(server))) == sorted(said)


def test_set_ups_one_after_the_other_add_no_second_handler(server: OTLPServer) -> None:
    for set_up in SETUPS:
        set_up()
    said = say(*NAMES)
    assert sorted(bodies(flush_records(server))) == sorted(said)


def test_the_applications_console_is_what_it_would_be(server: OTLPServer) -> None:
    logging.getLogger().handlers = []
    stream = io.StringIO()
    logging.basicConfig(stream=stream, format="%(message)s")
    logging.getLogger("shop").error("shown")
    logging.basicConfig(stream=io.StringIO(), format="never: there is a handler now")
    logging.getLogger("shop").error("also")
    assert stream.getvalue() == "shown\nalso\n"
    assert bodies(flush_records(server)) == ["shown", "also"]


def test_a_logger_that_is_silent_on_purpose_stays_so(server: OTLPServer) -> None:
    library = logging.getLogger("library")
    library.addHandler(logging.NullHandler())
    library.propagate = False
    say("library", "shop")
    assert bodies(flush_records(server)) == ["from shop"]


def test_loggers_that_do_not_propagate_are_left_alone_on_request() -> None:
    with configured(capture_non_propagating=False) as server:
        own_handlers_and_no_propagation()
        foreign_handler_on_a_logger_that_does_not_propagate()
        say("audit", "shop", "library")
        # The other library's handler is the only one that brings a record of "shop".
        assert bodies(flush_records(server)) == ["from shop", "from library"]


def test_a_foreign_handler_still_serves_its_other_processors(server: OTLPServer) -> None:
    provider = _logs.get_logger_provider()
    assert isinstance(provider, LoggerProvider)
    exporter = InMemoryLogRecordExporter()
    other = SimpleLogRecordProcessor(exporter)
    provider.add_log_record_processor(other)
    try:
        foreign_handler_on_the_root()
        say("shop")
        _logs.get_logger("direct").emit(body="by the API")
    finally:
        several = provider._multi_log_record_processor
        several._log_record_processors = tuple(one for one in several._log_record_processors if one is not other)
    assert [record.log_record.body for record in exporter.get_finished_logs()] == ["from shop", "by the API"]
    assert bodies(flush_records(server)) == ["from shop", "by the API"]


def test_a_foreign_handler_with_a_provider_of_its_own_is_nobodys_business(server: OTLPServer) -> None:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    handler = ForeignHandler(logger_provider=provider)
    logging.getLogger().addHandler(handler)
    say("shop")
    assert len(exporter.get_finished_logs()) == 1
    assert bodies(flush_records(server)) == ["from shop"]


def test_shielded_loggers_are_not_disabled_as_existing_ones(server: OTLPServer) -> None:
    configure_module.shield_loggers()
    late = logging.getLogger("made after the shield")
    logging.config.dictConfig({"version": 1, "root": {"level": "DEBUG"}})
    assert (late.disabled, logging.getLogger("library").disabled) == (True, False)
    late.warning("disabled, as it was to be")
    said = say("library")
    assert bodies(flush_records(server)) == said
    # Whoever means this very logger is heard.
    logging.getLogger("library").disabled = True
    assert logging.getLogger("library").disabled


def test_what_was_put_in_place_is_taken_back() -> None:
    places = (logging.Logger.addHandler, logging.Logger.removeHandler, logging.Logger.__setattr__, logging.basicConfig)
    emit = ForeignHandler.emit
    with configured():
        logging.getLogger("audit").addHandler(ForeignHandler())
        own_handlers_and_no_propagation()
        assert logging.Logger.addHandler is not places[0]
        assert ForeignHandler.emit is not emit
    assert places == (
        logging.Logger.addHandler,
        logging.Logger.removeHandler,
        logging.Logger.__setattr__,
        logging.basicConfig,
    )
    assert ForeignHandler.emit is emit
    for name in NAMES:
        assert not any(isinstance(one, otelog.LoggingHandler) for one in logging.getLogger(name).handlers)


# Queues.


def test_a_queue_and_its_listener_do_not_double_a_record(server: OTLPServer) -> None:
    root = logging.getLogger()
    waiting: queue.Queue[Any] = queue.Queue()
    listener = logging.handlers.QueueListener(waiting, *root.handlers)
    root.handlers = [logging.handlers.QueueHandler(waiting)]
    listener.start()
    try:
        said = say(*NAMES)
    finally:
        listener.stop()
    assert sorted(bodies(flush_records(server))) == sorted(said)


def test_what_only_a_listener_brings_is_taken(server: OTLPServer) -> None:
    # A logger nobody knows of: its record has not come any other way.
    shop = logging.Logger("not in the tree", logging.DEBUG)
    waiting: queue.Queue[Any] = queue.Queue()
    listener = logging.handlers.QueueListener(waiting, *logging.getLogger().handlers)
    shop.addHandler(logging.handlers.QueueHandler(waiting))
    shop.propagate = False
    listener.start()
    try:
        shop.warning("once")
        wait_until(waiting.empty, 5, what="the listener")
    finally:
        listener.stop()
    assert bodies(flush_records(server)) == ["once"]


# Whole processes, where the application comes first or last.

FLASK = """
    from flask import Flask
    {configure}
    app = Flask("shop")
    app.logger.warning("by flask")
    import logging
    logging.getLogger("plain").warning("by logging")
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "OTEL_METRICS_EXPORTER": "none", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("last_resort", [False, True])
def test_flask_and_logging_itself_write_to_the_console_as_without_otelog(last_resort: bool) -> None:
    keep = "providers.keep_last_resort()" if last_resort else ""
    with OTLPServer() as server:
        configure = f"""import otelog
    from otelog._setup import configure as providers
    {keep}
    otelog.configure(endpoint={server.endpoint!r}, service_name="test")"""
        with_otelog = run(FLASK.format(configure=configure)).stderr.splitlines()
        assert sorted(bodies(server.records)) == ["by flask", "by logging"]
    without = run(FLASK.format(configure="")).stderr.splitlines()
    assert len(without) == 2
    by_flask = [line.partition("]")[2] for line in (without[0], with_otelog[0])]
    assert by_flask == [" WARNING in <string>: by flask"] * 2
    assert with_otelog[1:] == (without[1:] if last_resort else [])


def test_reset_twice_and_configure_again_leaves_one_handler() -> None:
    with configured():
        configure_module.reset()
    with configured() as server:
        say("shop")
        assert bodies(flush_records(server)) == ["from shop"]
