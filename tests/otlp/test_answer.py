"""What servers say in their answers is read, and what they babble does no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from otelog._otlp.answer import MAX_MESSAGE_CHARS, read_error_message, read_partial_success

PROTOBUF = {"content-type": "application/x-protobuf"}


def encode(rejected: int, message: str) -> bytes:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = rejected
    answer.partial_success.error_message = message
    return answer.SerializeToString()


@given(rejected=st.integers(0, 2**63 - 1), message=st.text(st.characters(min_codepoint=33, max_codepoint=126)))
def test_a_partial_success_is_read_as_the_official_library_writes_it(rejected: int, message: str) -> None:
    said, words = read_partial_success(encode(rejected, message))
    assert said == rejected
    assert words == message if len(message) <= MAX_MESSAGE_CHARS else words.endswith("…")


@given(st.binary())
def test_no_body_of_a_success_raises(body: bytes) -> None:
    rejected, message = read_partial_success(body)
    assert 0 <= rejected < 2**63
    assert len(message) <= MAX_MESSAGE_CHARS


@given(st.integers(0, 60))
def test_a_body_that_ends_early_never_invents_rejected_records(length: int) -> None:
    whole = encode(3, "three records are too old for this server")
    rejected, _ = read_partial_success(whole[:length])
    assert rejected in (0, 3)


@pytest.mark.parametrize("body", [b"", encode(-1, ""), b"\x0b", b"\x0a\x7f", b"\x0a\x0b\x08" + b"\xff" * 10, b"<html>"])
def test_a_body_without_a_usable_number_rejects_nothing(body: bytes) -> None:
    assert read_partial_success(body)[0] == 0


def test_unknown_fields_are_passed_over() -> None:
    later = b"\x18\x07" + b"\x21" + b"\x00" * 8 + b"\x2d" + b"\x00" * 4 + b"\x32\x02hi"
    assert read_partial_success(later + encode(5, "why")) == (5, "why")


def test_a_message_cannot_write_lines_of_its_own_to_the_terminal() -> None:
    assert read_partial_success(encode(1, "bad\nforged: line\x1b[2J")) == (1, "bad forged: line [2J")


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        (PROTOBUF, b"\x08\x03\x12\x08no body!", "no body!"),
        (PROTOBUF, b"\x12\x7f", ""),
        ({"content-type": "text/plain; charset=utf-8"}, b"request too large\n", "request too large"),
        ({"content-type": "application/json"}, b'{"message":"no"}', '{"message":"no"}'),
        ({"content-type": "text/html"}, b"<html>long</html>", ""),
        ({}, b"anything", ""),
        ({"content-type": "text/plain"}, b"\xff\xfe", "��"),
    ],
)
def test_a_failure_is_explained_in_the_servers_words(headers: dict[str, str], body: bytes, message: str) -> None:
    assert read_error_message(headers, body) == message


@given(st.binary())
def test_no_body_of_a_failure_raises(body: bytes) -> None:
    assert len(read_error_message(PROTOBUF, body)) <= MAX_MESSAGE_CHARS
