"""Each set-up of `logging` that goes wrong is told by exactly its own code, and a good one by none."""

from __future__ import annotations

import logging
import logging.config
import queue
from collections.abc import Callable, Iterator
from logging.handlers import QueueHandler, QueueListener

import pytest
from opentelemetry.instrumentation.logging.handler import LoggingHandler as InstrumentationHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

from otelog import BatchLogRecordProcessor, LoggingHandler
from otelog.doctor import Finding
from otelog.doctor._doubles import check_handlers
from otelog.doctor._loggers import check_loggers
from otelog.doctor._ways import find_listeners
from tests.arrivals import configured

Listening = list[QueueListener]


class Tree:
    """A tree of loggers of its own, with otelog's handler on its root, and two loggers."""

    def __init__(self) -> None:
        self.root = logging.RootLogger(logging.INFO)
        self.root.manager = logging.Manager(self.root)
        self.handler = LoggingHandler()
        self.root.addHandler(self.handler)
        self.listeners: Listening = []
        self.shop = self.get("shop")
        self.database = self.get("shop.db.sql")

    def get(self, name: str) -> logging.Logger:
        return self.root.manager.getLogger(name)

    def examine(self) -> list[Finding]:
        areas = (
            check_loggers(self.root, level=logging.INFO, listeners=self.listeners),
            check_handlers(self.root, listeners=self.listeners),
        )
        return [finding for area in areas for finding in area.findings]


def codes(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.code, finding.subject) for finding in findings]


def leave_alone(tree: Tree) -> None:
    """The application has a console beside."""
    tree.root.addHandler(logging.StreamHandler())
    tree.shop.addHandler(logging.NullHandler())


def disable(tree: Tree) -> None:
    tree.database.disabled = True


def stop_propagation(tree: Tree) -> None:
    tree.shop.propagate = False
    tree.shop.addHandler(logging.StreamHandler())


def stop_propagation_without_handlers(tree: Tree) -> None:
    tree.shop.propagate = False


def silence(tree: Tree) -> None:
    tree.shop.propagate = False
    tree.shop.addHandler(logging.NullHandler())


def stop_propagation_with_ours(tree: Tree) -> None:
    tree.shop.propagate = False
    tree.shop.addHandler(LoggingHandler())


def replace_root_handlers(tree: Tree) -> None:
    tree.root.handlers = [logging.StreamHandler()]


def raise_root_level(tree: Tree) -> None:
    tree.root.setLevel(logging.WARNING)


def raise_level(tree: Tree) -> None:
    tree.shop.setLevel(logging.ERROR)


def lower_level(tree: Tree) -> None:
    tree.shop.setLevel(logging.DEBUG)


def raise_handler_level(tree: Tree) -> None:
    tree.handler.setLevel(logging.ERROR)


def filter_logger(tree: Tree) -> None:
    tree.shop.addFilter(lambda record: True)


def filter_handler(tree: Tree) -> None:
    tree.handler.addFilter(logging.Filter("shop"))


def switch_off(tree: Tree) -> None:
    tree.root.manager.disable = logging.CRITICAL


def switch_debug_off(tree: Tree) -> None:
    tree.root.manager.disable = logging.DEBUG


def add_ours_twice(tree: Tree) -> None:
    tree.root.addHandler(LoggingHandler())


def add_ours_below(tree: Tree) -> None:
    tree.shop.addHandler(LoggingHandler())


def add_queue_beside(tree: Tree) -> None:
    tree.root.addHandler(QueueHandler(queue.SimpleQueue()))


def put_queue_before_ours(tree: Tree) -> None:
    between: queue.SimpleQueue[object] = queue.SimpleQueue()
    tree.root.handlers = [QueueHandler(between)]
    tree.listeners = [QueueListener(between, tree.handler)]


def put_queue_before_another(tree: Tree) -> None:
    between: queue.SimpleQueue[object] = queue.SimpleQueue()
    tree.root.handlers = [QueueHandler(between)]
    tree.listeners = [QueueListener(between, logging.StreamHandler())]


def put_queue_before_ours_and_beside(tree: Tree) -> None:
    between: queue.SimpleQueue[object] = queue.SimpleQueue()
    tree.root.addHandler(QueueHandler(between))
    tree.listeners = [QueueListener(between, tree.handler)]


def export_elsewhere(tree: Tree) -> None:
    tree.root.addHandler(InstrumentationHandler(logger_provider=LoggerProvider(shutdown_on_exit=False)))


SETUPS: list[tuple[Callable[[Tree], None], list[tuple[str, str, str]]]] = [
    (leave_alone, []),
    (stop_propagation_with_ours, []),
    (lower_level, []),
    (switch_debug_off, []),
    (add_queue_beside, []),
    (disable, [("error", "logger.disabled", "shop.db.sql")]),
    (stop_propagation, [("error", "logger.not_propagating", "shop")]),
    (stop_propagation_without_handlers, [("error", "logger.not_propagating", "shop")]),
    (silence, [("note", "logger.silenced", "shop")]),
    (replace_root_handlers, [("error", "logger.no_handler", "root")]),
    (raise_root_level, [("warning", "logger.level", "root")]),
    (raise_level, [("note", "logger.level", "shop")]),
    (raise_handler_level, [("warning", "handler.level", "LoggingHandler")]),
    (filter_logger, [("note", "logger.filter", "shop")]),
    (filter_handler, [("note", "handler.filter", "LoggingHandler")]),
    (switch_off, [("error", "logger.switched_off", "logging.disable(CRITICAL)")]),
    (add_ours_twice, [("warning", "handlers.doubled", "root")]),
    (add_ours_below, [("warning", "handlers.doubled", "shop")]),
    (put_queue_before_ours, [("warning", "logger.queued", "root")]),
    (put_queue_before_another, [("error", "logger.no_handler", "root")]),
    (put_queue_before_ours_and_beside, [("warning", "handlers.doubled", "root")]),
    (export_elsewhere, [("warning", "handlers.elsewhere", "root")]),
]


@pytest.mark.parametrize(("set_up", "expected"), SETUPS, ids=[set_up.__name__ for set_up, _ in SETUPS])
def test_a_mistaken_set_up_is_told_by_its_code(
    set_up: Callable[[Tree], None], expected: list[tuple[str, str, str]]
) -> None:
    tree = Tree()
    set_up(tree)
    assert codes(tree.examine()) == expected


def test_all_loggers_of_a_cut_way_are_named_and_those_with_a_way_out_are_not() -> None:
    tree = Tree()
    stop_propagation(tree)
    tree.get("elsewhere")
    (finding,) = tree.examine()
    assert finding.names == ("shop", "shop.db.sql")


def test_a_logger_that_is_cut_below_another_cut_is_told_of_its_own() -> None:
    tree = Tree()
    stop_propagation(tree)
    tree.database.propagate = False
    assert [(one.subject, one.names) for one in tree.examine()] == [
        ("shop", ("shop",)),
        ("shop.db.sql", ("shop.db.sql",)),
    ]


def test_handlers_that_nobody_wanted_are_no_error() -> None:
    tree = Tree()
    replace_root_handlers(tree)
    area = check_loggers(tree.root, level=logging.INFO, handler_wanted=False)
    assert codes(list(area.findings)) == [("note", "logger.no_handler", "root")]


def test_the_loggers_of_the_export_itself_are_no_finding() -> None:
    tree = Tree()
    own = tree.get("opentelemetry.sdk._logs.export")
    own.propagate = False
    own.addHandler(logging.StreamHandler())
    own.addFilter(lambda record: True)
    assert tree.examine() == []


@pytest.fixture
def processor() -> Iterator[BatchLogRecordProcessor]:
    processor = BatchLogRecordProcessor(InMemoryLogRecordExporter())
    yield processor
    processor.shutdown()


def test_a_foreign_handler_that_leads_to_otelog_doubles_every_record(processor: BatchLogRecordProcessor) -> None:
    tree = Tree()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    tree.root.handlers = [LoggingHandler(processor=processor), InstrumentationHandler(logger_provider=provider)]
    assert codes(tree.examine()) == [("error", "handlers.foreign", "root")]


@pytest.mark.usefixtures("own_loggers")
def test_a_foreign_handler_that_otelog_has_pass_over_its_records_doubles_none() -> None:
    root = logging.getLogger()
    with configured():
        root.addHandler(InstrumentationHandler())
        area = check_handlers(root)
    assert codes(list(area.findings)) == [("warning", "handlers.passed_over", "root")]


def test_a_foreign_handler_alone_that_leads_to_otelog_is_as_good(processor: BatchLogRecordProcessor) -> None:
    tree = Tree()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    tree.root.handlers = [InstrumentationHandler(logger_provider=provider)]
    assert tree.examine() == []


def test_the_deprecated_handler_of_the_sdk_is_recognised_too(processor: BatchLogRecordProcessor) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk._logs")
    if not hasattr(sdk, "LoggingHandler"):
        pytest.skip("this SDK has none any more")
    tree = Tree()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    with pytest.warns(DeprecationWarning, match="LoggingHandler"):
        foreign = sdk.LoggingHandler(logger_provider=provider)
    tree.root.handlers = [LoggingHandler(processor=processor), foreign]
    assert codes(tree.examine()) == [("error", "handlers.foreign", "root")]


def test_two_pipelines_with_a_handler_each_double_nothing(processor: BatchLogRecordProcessor) -> None:
    tree = Tree()
    tree.root.addHandler(LoggingHandler(processor=processor))
    assert tree.examine() == []


def test_a_queues_listener_is_found_though_no_handler_knows_it() -> None:
    listener = QueueListener(queue.SimpleQueue())
    assert any(one is listener for one in find_listeners())


@pytest.mark.usefixtures("own_loggers")
def test_what_dict_config_disables_in_a_real_process_is_named() -> None:
    with configured():
        logging.getLogger("early")
        logging.config.dictConfig({"version": 1, "root": {"level": "INFO", "handlers": []}})
        area = check_loggers(logging.getLogger(), level=logging.INFO)
    assert [finding.names for finding in area.findings if finding.code == "logger.disabled"] == [("early",)]
