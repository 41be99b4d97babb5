"""Tests of what the shop logs, by otelog.testing: nothing is sent anywhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from otelog.testing import CapturedLogs, capture_logs
from shop import create_app


@pytest.fixture(autouse=True)
def sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTELOG_EXPORTERS", "none")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")


@pytest.fixture
def client() -> FlaskClient:
    return create_app({"STOCK": {"lamp": 1, "chair": 0}}).test_client()


@pytest.fixture
def logs(client: FlaskClient) -> Iterator[CapturedLogs]:
    with capture_logs() as captured:
        yield captured


def of_logger(logs: CapturedLogs, name: str) -> list[tuple[Any, dict[str, Any]]]:
    return [
        (one.log_record.body, dict(one.log_record.attributes or {}))
        for one in logs.records
        if one.instrumentation_scope is not None and one.instrumentation_scope.name == name
    ]


def test_an_order_is_logged_with_its_fields(client: FlaskClient, logs: CapturedLogs) -> None:
    assert client.post("/orders/", json={"item": "lamp"}, headers={"X-Tenant": "north"}).status_code == 201
    [(body, fields)] = of_logger(logs, "shop.orders")[-1:]
    assert body == "order placed"
    assert (fields["item"], fields["amount"], fields["tenant"]) == ("lamp", 49.5, "north")


def test_all_records_of_a_request_have_one_trace(client: FlaskClient, logs: CapturedLogs) -> None:
    client.post("/orders/", json={"item": "chair"}).close()
    traces = {one.log_record.trace_id for one in logs.records}
    assert len(traces) == 1
    assert traces != {0}


def test_an_item_that_is_out_of_stock_is_a_warning_and_no_error(client: FlaskClient, logs: CapturedLogs) -> None:
    assert client.post("/orders/", json={"item": "chair"}).status_code == 409
    assert of_logger(logs, "shop.errors")[0][0] == "out of stock: chair"
    assert [one.log_record.severity_text for one in logs.records if one.log_record.body == "out of stock: chair"] == [
        logging.getLevelName(logging.WARNING)
    ]


def test_an_exception_that_nobody_expected_is_one_record(client: FlaskClient, logs: CapturedLogs) -> None:
    client.application.config["PROPAGATE_EXCEPTIONS"] = False
    assert client.post("/orders/", json={"item": "no such item"}).status_code == 500
    told = [one for one in logs.records if "exception.type" in (one.log_record.attributes or {})]
    assert {one.log_record.attributes["exception.type"] for one in told if one.log_record.attributes} == {"KeyError"}
