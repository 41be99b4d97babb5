"""Whether the endpoint answers: a canary is sent as the exporter would send it, and the answer is explained."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from otelog._config.proxy import parse_proxy
from otelog._config.resolve import ExporterSettings, find_usable_proxy
from otelog._config.table import GRPC
from otelog._otlp.answer import read_error_message, read_partial_success
from otelog._otlp.delivery import Sender
from otelog._otlp.exchange import Answer, TransportFailure
from otelog._otlp.exporter import OTLPLogExporter
from otelog._runtime.quiet import quiet
from otelog.doctor._canary import make_request
from otelog.doctor._findings import Area, Finding, make_area
from otelog.doctor._probes import Port, speaks_http2_alone, speaks_tls
from otelog.doctor._settings import is_loopback
from otelog.exceptions import ConfigurationError

_START_HERE = (
    "start a Collector: `otelog stack up`, or `otelog dev`; else set endpoint (OTEL_EXPORTER_OTLP_ENDPOINT): in a "
    "container, localhost is the container itself"
)
_START_THERE = "is the Collector running there, and does it listen on more than its own loopback?"


class _Cause(NamedTuple):
    pattern: str
    code: str
    advice: str


_GRPC_PORT = _Cause("is this a gRPC port", "grpc_port", "use the port for HTTP (4318), or protocol=grpc")
_HTTP_PORT = _Cause(
    "is this an HTTP port|Received http2 header with status",
    "http_port",
    "use the port for gRPC (4317), or protocol=http/protobuf",
)
_UNKNOWN = _Cause("", "no_answer", "is this an OTLP endpoint? see the server's own log")
# Behind these may be another protocol: it is worth a look.
_UNCERTAIN = ("no_answer", "client_certificate", "http_port", "grpc_port")
# What the transports say, from the most particular to the most general.
_CAUSES = (
    _Cause(
        "the proxy's host must be|the proxy (does not speak|refused our side of) TLS",
        "proxy",
        "correct the proxy's URL: https:// is for a port that speaks TLS, by a name that the proxy's certificate holds",
    ),
    _Cause("does not speak TLS here", "not_tls", "use http://, or the port that speaks TLS"),
    _Cause("must be a name that the certificate holds", "wrong_name", "use a host that the server's certificate names"),
    _Cause("certificate was refused: .*expired", "certificate_expired", "renew the server's certificate"),
    _Cause("authority that signed it", "unknown_authority", "set certificate_file to the authority that signed it"),
    _Cause(
        "refused our side of TLS|asks for a client's certificate",
        "client_certificate",
        "set client_certificate_file and client_key_file to what this server trusts",
    ),
    _Cause(
        "the proxy .* answered 407",
        "proxy_unauthorized",
        "put the proxy's user and password into its URL: http://user:password@host:port",
    ),
    _Cause(
        "the proxy .* (answered|did not answer)|by the proxy ",
        "proxy",
        "is the proxy there, and may it reach the endpoint? NO_PROXY has what needs none; proxy=none takes none",
    ),
    _GRPC_PORT,
    _HTTP_PORT,
    _Cause("Connection refused|Errno 111", "not_listening", _START_THERE),
    _Cause(
        "name resolution|DNS resolution|not known|No address associated|getaddrinfo|gaierror",
        "unknown_host",
        "correct the host's name in endpoint; in Docker it is the service's name",
    ),
    _Cause("in time", "timeout", "is a firewall in between, or the server overloaded? else raise timeout"),
)
_STATUSES = {
    400: ("refused", "the server does not understand the request: is it an OTLP endpoint for logs?"),
    401: ("unauthorized", "set the token in headers (OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20...)"),
    403: ("unauthorized", "the token in headers is known, but not allowed to write logs here"),
    404: ("not_found", "correct the path: a Collector's is /v1/logs; is another server at this port?"),
    405: ("not_found", "correct the path: a Collector's is /v1/logs; is another server at this port?"),
    407: ("proxy_unauthorized", "put the proxy's user and password into its URL: http://user:password@host:port"),
    413: ("too_large", "raise the server's limit: the canary is but some hundred bytes"),
    415: ("unsupported", "the server does not take protobuf with this compression: try compression=none"),
    501: ("not_found", "nothing takes OTLP logs here: add a logs pipeline to the Collector, or correct the endpoint"),
}
_BUSY = (429, 502, 503, 504)


def check_endpoints(
    targets: list[tuple[str, ExporterSettings]], resource_attributes: Mapping[str, Any], timeout: float
) -> Area:
    """Send a canary to each endpoint.

    Args:
        targets: The OTLP exporters by their names.
        resource_attributes: Whose record the canary is.
        timeout: Seconds for each of them at most; an exporter's own timeout if that is shorter.
    """
    facts: list[str] = []
    findings: list[Finding] = []
    for _, target in targets:
        findings += _check(target, resource_attributes, min(timeout, target.timeout), facts)
    if not targets:
        facts.append("no exporter speaks OTLP: nothing was asked")
    return make_area("endpoint", facts, findings)


def _check(
    target: ExporterSettings, resource_attributes: Mapping[str, Any], timeout: float, facts: list[str]
) -> Iterator[Finding]:
    try:
        exporter = OTLPLogExporter.of_settings(target)
    except ConfigurationError as error:
        yield Finding("error", "endpoint.unusable", _show(target), str(error), "correct the setting")
        return
    proxy = _find_proxy(target)
    if proxy is not None:
        facts.append(f"{_show(target)} is asked by the proxy {proxy}")
    try:
        # Without this, our own request would be logged, traced and counted as the application's.
        with quiet():
            began = time.monotonic()
            try:
                answer = _post(exporter.delivery.transport, make_request(resource_attributes), timeout)
            except TransportFailure as failure:
                yield _explain_failure(target, failure, timeout)
                return
            milliseconds = (time.monotonic() - began) * 1000
            yield from _judge(target, answer, timeout, milliseconds, facts)
    finally:
        exporter.shutdown(0.0)


def _post(transport: Sender, body: bytes, timeout: float) -> Answer:
    deadline = time.monotonic() + timeout
    transport.send(body, timeout=timeout, time_left=lambda: deadline - time.monotonic())
    try:
        return transport.receive()
    finally:
        transport.end_exchange()


def _judge(
    target: ExporterSettings, answer: Answer, timeout: float, milliseconds: float, facts: list[str]
) -> Iterator[Finding]:
    where = _show(target)
    if not 200 <= answer.status < 300:
        yield _explain_answer(target, answer, timeout)
        return
    rejected, message = read_partial_success(answer.body)
    if rejected:
        yield Finding(
            "error",
            "endpoint.rejected",
            where,
            f"answered, but rejected the canary: {message or 'it does not say why'}",
            "see the server's own log; an old timestamp or a missing label are the usual reasons",
        )
        return
    facts.append(f"{where} answered in {milliseconds:.0f} ms; canary accepted")
    if message:
        yield Finding(
            "warning",
            "endpoint.warned",
            where,
            f"took the canary, and said: {message}",
            "see the server's documentation of that warning",
        )


def _explain_answer(target: ExporterSettings, answer: Answer, timeout: float) -> Finding:
    said = read_error_message(answer.headers, answer.body)
    what = f"answered {answer.rpc_status or answer.status}" + (f": {said}" if said else "")
    if 300 <= answer.status < 400:
        where = answer.headers.get("location", "")
        code, advice = "redirected", f"redirects are not followed: set the endpoint to {where or 'where it leads'}"
    elif answer.rpc_status is not None and re.search(_HTTP_PORT.pattern, said):
        # What answered is no gRPC server.
        code, advice = _HTTP_PORT.code, _HTTP_PORT.advice
    elif answer.status in _BUSY:
        code, advice = "unavailable", "the server is there, but not ready: see its own log, and what it exports to"
    else:
        code, advice = _STATUSES.get(answer.status, ("refused", "see the server's own log"))
    direct = _find_proxy(target) is None
    if answer.status == 400 and direct and _is_plain(target) and speaks_tls(_port_of(target, timeout)):
        return _expect_tls(target)
    return Finding("error", f"endpoint.{code}", _show(target), what, advice)


def _explain_failure(target: ExporterSettings, failure: TransportFailure, timeout: float) -> Finding:
    cause = next((cause for cause in _CAUSES if re.search(cause.pattern, failure.detail)), _UNKNOWN)
    what = re.sub(r"^https?://\S+: ", "", failure.detail)
    if cause.code in _UNCERTAIN and _find_proxy(target) is None:
        if _is_plain(target) and speaks_tls(_port_of(target, timeout)):
            return _expect_tls(target)
        secure = not _is_plain(target)
        if target.protocol != GRPC and speaks_http2_alone(_port_of(target, timeout), secure=secure):
            cause, what = _GRPC_PORT, "speaks HTTP/2 alone, as gRPC does, and was asked by HTTP/1.1"
    here = cause.code == "not_listening" and is_loopback(urlsplit(target.endpoint).hostname or "")
    return Finding("error", f"endpoint.{cause.code}", _show(target), what, _START_HERE if here else cause.advice)


def _find_proxy(target: ExporterSettings) -> str | None:
    """Returns the proxy that the endpoint is reached by, without its password."""
    url = find_usable_proxy(target.proxy, target.endpoint, target.protocol)
    return None if url is None else parse_proxy(url).url


def _is_plain(target: ExporterSettings) -> bool:
    return urlsplit(target.endpoint).scheme == "http"


def _port_of(target: ExporterSettings, timeout: float) -> Port:
    parts = urlsplit(target.endpoint)
    return Port(parts.hostname or "", parts.port or (80 if _is_plain(target) else 443), timeout)


def _expect_tls(target: ExporterSettings) -> Finding:
    return Finding(
        "error", "endpoint.tls_expected", _show(target), "speaks TLS, and got a plain request", "use https://"
    )


def _show(target: ExporterSettings) -> str:
    # A query may hold a key.
    shown = urlsplit(target.endpoint)._replace(query="").geturl()
    return f"{shown} (gRPC)" if target.protocol == GRPC else shown
