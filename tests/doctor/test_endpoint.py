"""A canary is sent as the exporter would, and whatever becomes of it is told by its own code."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trustme

from otelog._config.resolve import resolve
from otelog.doctor import Finding
from otelog.doctor._canary import EVENT_NAME
from otelog.doctor._examination import examine_endpoints
from otelog.testing import OTLPServer, Reply
from tests.arrivals import to_dict
from tests.grpc_server import GrpcServer
from tests.grpc_server import Reply as GrpcReply
from tests.proxy_server import ProxyServer
from tools.loopback import find_free_ports

PATIENCE = 10.0
SOON = 0.3
"""Seconds for an endpoint that does not answer."""


def examine(endpoint: str, patience: float = PATIENCE, **options: Any) -> tuple[tuple[str, ...], list[Finding]]:
    area = examine_endpoints(resolve({"endpoint": endpoint, "service_name": "shop", **options}, {}), patience)
    return area.facts, list(area.findings)


def find_code(endpoint: str, patience: float = PATIENCE, **options: Any) -> str:
    facts, (finding,) = examine(endpoint, patience, **options)
    assert facts == ()
    assert finding.severity == "error"
    assert finding.advice
    return finding.code


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with OTLPServer() as one:
        yield one


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def serve_tls(authority: trustme.CA, *names: str) -> OTLPServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return OTLPServer(tls=context)


@contextmanager
def serving(*talks: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server that does to one connection after the other what no `Reply` can; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)

        def serve() -> None:
            for talk in talks:
                with suppress(OSError), listener.accept()[0] as plain:
                    plain.settimeout(PATIENCE)
                    talk(plain)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_a_canary_that_is_taken_is_a_fact(server: OTLPServer) -> None:
    facts, findings = examine(server.endpoint)
    assert findings == []
    (fact,) = facts
    assert fact.startswith(f"{server.logs_endpoint} answered in ")
    assert fact.endswith(" ms; canary accepted")
    (record,) = server.records
    assert (record.event_name, record.severity_text) == (EVENT_NAME, "INFO")
    (resource,) = server.requests[0].decode().resource_logs
    assert to_dict(resource.resource.attributes)["service.name"] == "shop"


def test_the_canary_goes_with_the_headers_and_the_compression_of_the_settings(server: OTLPServer) -> None:
    examine(server.endpoint, headers={"authorization": "secret"}, compression="none")
    (request,) = server.requests
    assert request.headers["authorization"] == "secret"
    assert "content-encoding" not in request.headers


STATUSES = {
    301: "endpoint.redirected",
    400: "endpoint.refused",
    401: "endpoint.unauthorized",
    403: "endpoint.unauthorized",
    404: "endpoint.not_found",
    405: "endpoint.not_found",
    413: "endpoint.too_large",
    415: "endpoint.unsupported",
    429: "endpoint.unavailable",
    500: "endpoint.refused",
    501: "endpoint.not_found",
    503: "endpoint.unavailable",
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_refusal_is_told_by_what_is_to_be_done(server: OTLPServer, status: int) -> None:
    server.script = [Reply(status=status)]
    assert find_code(server.endpoint) == STATUSES[status]
    assert len(server.requests) == 1, "a doctor asks once"


def test_what_the_server_says_is_told(server: OTLPServer) -> None:
    server.script = [Reply(status=401, body=b"no such token", headers={"Content-Type": "text/plain"})]
    _, (finding,) = examine(server.endpoint)
    assert finding.what == "answered 401: no such token"


def test_a_path_that_is_not_served_is_told(server: OTLPServer) -> None:
    assert find_code(f"{server.endpoint}/elsewhere") == "endpoint.not_found"


def test_a_canary_that_is_rejected_in_a_success_is_an_error(server: OTLPServer) -> None:
    server.script = [Reply(rejected=1, message="too old")]
    facts, (finding,) = examine(server.endpoint)
    assert facts == ()
    assert (finding.severity, finding.code) == ("error", "endpoint.rejected")
    assert "too old" in finding.what


def test_a_success_with_a_remark_is_a_warning(server: OTLPServer) -> None:
    server.script = [Reply(message="use v2")]
    facts, (finding,) = examine(server.endpoint)
    assert len(facts) == 1
    assert (finding.severity, finding.code) == ("warning", "endpoint.warned")


def test_a_port_that_nobody_listens_on_is_told_with_how_to_start_something_there() -> None:
    (port,) = find_free_ports(1)
    _, (finding,) = examine(f"http://127.0.0.1:{port}")
    assert finding.code == "endpoint.not_listening"
    assert "otelog stack up" in finding.advice


def test_nothing_is_started_for_another_machine() -> None:
    # Linux takes this address for loopback, and nobody else does.
    (port,) = find_free_ports(1)
    _, (finding,) = examine(f"http://0.0.0.0:{port}")
    assert finding.code == "endpoint.not_listening"
    assert "otelog stack up" not in finding.advice


def test_a_host_that_is_not_known_is_told() -> None:
    assert find_code("http://nowhere.invalid:4318") == "endpoint.unknown_host"


def test_an_endpoint_that_does_not_answer_is_given_up(server: OTLPServer) -> None:
    server.script = [Reply(fault="hang")]
    assert find_code(server.endpoint, SOON) == "endpoint.timeout"


def test_the_settings_own_timeout_holds_if_it_is_shorter(server: OTLPServer) -> None:
    server.script = [Reply(fault="hang")]
    assert find_code(server.endpoint, 3600.0, timeout=SOON) == "endpoint.timeout"


def test_a_connection_that_is_cut_is_told(server: OTLPServer) -> None:
    server.script = [Reply(fault="close")]
    assert find_code(server.endpoint) == "endpoint.no_answer"


def test_a_server_of_a_trusted_authority_is_well(authority: trustme.CA, authority_file: str) -> None:
    with serve_tls(authority, "127.0.0.1") as server:
        facts, findings = examine(server.endpoint, certificate_file=authority_file)
    assert (len(facts), findings) == (1, [])


def test_an_unknown_authority_is_told(authority: trustme.CA) -> None:
    with serve_tls(authority, "127.0.0.1") as server:
        assert find_code(server.endpoint) == "endpoint.unknown_authority"


def test_a_certificate_for_another_name_is_told(authority: trustme.CA, authority_file: str) -> None:
    with serve_tls(authority, "elsewhere.example") as server:
        assert find_code(server.endpoint, certificate_file=authority_file) == "endpoint.wrong_name"


def test_tls_to_a_plain_port_is_told(server: OTLPServer) -> None:
    assert find_code(server.endpoint.replace("http:", "https:")) == "endpoint.not_tls"


def test_plain_http_to_a_tls_port_is_told(authority: trustme.CA) -> None:
    with serve_tls(authority, "127.0.0.1") as server:
        assert find_code(server.endpoint.replace("https:", "http:")) == "endpoint.tls_expected"


def test_a_tls_port_that_answers_plain_http_with_a_refusal_is_told_too(authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def refuse(plain: socket.socket) -> None:
        # As servers written in Go do.
        plain.recv(65536)
        plain.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")

    def shake_hands(plain: socket.socket) -> None:
        context.wrap_socket(plain, server_side=True).close()

    with serving(refuse, shake_hands) as port:
        assert find_code(f"http://127.0.0.1:{port}") == "endpoint.tls_expected"


@pytest.mark.parametrize("known", [True, False])
def test_a_server_that_asks_who_we_are_is_told(authority: trustme.CA, authority_file: str, known: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with (
        OTLPServer(tls=context) as server,
        authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.tempfile() as pair,
    ):
        options = {"certificate_file": authority_file, **({"client_certificate_file": pair} if known else {})}
        if known:
            assert examine(server.endpoint, **options)[1] == []
        else:
            assert find_code(server.endpoint, **options) == "endpoint.client_certificate"


def test_a_certificate_file_that_cannot_be_used_is_told() -> None:
    assert find_code("https://127.0.0.1:1", certificate_file=__file__) == "endpoint.unusable"


def test_a_canary_by_grpc_is_taken() -> None:
    with GrpcServer() as server:
        facts, findings = examine(server.endpoint, protocol="grpc")
        assert server.bodies == ["otelog doctor was here"]
    assert findings == []
    assert "(gRPC) answered in " in facts[0]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("UNAUTHENTICATED", "endpoint.unauthorized"),
        ("PERMISSION_DENIED", "endpoint.unauthorized"),
        ("UNIMPLEMENTED", "endpoint.not_found"),
        ("UNAVAILABLE", "endpoint.unavailable"),
    ],
)
def test_a_refusal_by_grpc_is_told_as_that_of_http(status: str, code: str) -> None:
    with GrpcServer([GrpcReply(code=status)]) as server:
        assert find_code(server.endpoint, protocol="grpc") == code


def test_http_to_a_grpc_port_is_told() -> None:
    with GrpcServer() as server:
        assert find_code(server.endpoint) == "endpoint.grpc_port"


def test_a_grpc_port_that_cuts_http_off_is_told_too() -> None:
    def reset(plain: socket.socket) -> None:
        # As servers written in Go do, more often than not.
        plain.recv(10)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def greet(plain: socket.socket) -> None:
        plain.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        plain.recv(65536)

    with serving(reset, reset, greet) as port:
        assert find_code(f"http://127.0.0.1:{port}") == "endpoint.grpc_port"


def test_http_to_a_grpc_port_with_tls_is_told(authority: trustme.CA, authority_file: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2"])

    def shake_hands(plain: socket.socket) -> None:
        context.wrap_socket(plain, server_side=True).close()

    with serving(shake_hands, shake_hands, shake_hands) as port:
        assert find_code(f"https://127.0.0.1:{port}", certificate_file=authority_file) == "endpoint.grpc_port"


def test_grpc_to_an_http_port_is_told() -> None:
    def answer(plain: socket.socket) -> None:
        plain.recv(1000)
        plain.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with serving(answer, socket.socket.close) as port:
        assert find_code(f"http://127.0.0.1:{port}", protocol="grpc") == "endpoint.http_port"


def test_what_a_web_server_says_by_grpc_is_told_as_its_port() -> None:
    with GrpcServer([GrpcReply(code="UNIMPLEMENTED", details="Received http2 header with status: 404")]) as server:
        assert find_code(server.endpoint, protocol="grpc") == "endpoint.http_port"


def test_nobody_listens_for_grpc_either() -> None:
    (port,) = find_free_ports(1)
    assert find_code(f"http://127.0.0.1:{port}", protocol="grpc") == "endpoint.not_listening"


def test_each_otlp_exporter_is_asked_and_no_other(server: OTLPServer) -> None:
    with OTLPServer() as second:
        exporters = ["otlp", "console", {"type": "otlp", "name": "second", "endpoint": second.endpoint}]
        facts, findings = examine(server.endpoint, exporters=exporters)
        assert (len(facts), findings) == (2, [])
        assert (len(server.records), len(second.records)) == (1, 1)


def test_without_an_otlp_exporter_nothing_is_asked(server: OTLPServer) -> None:
    facts, findings = examine(server.endpoint, exporters=["console"])
    assert findings == []
    assert facts == ("no exporter speaks OTLP: nothing was asked",)
    assert server.connections == 0


# --- by a proxy


def test_that_a_proxy_is_used_is_said_without_its_password(server: OTLPServer) -> None:
    with ProxyServer() as proxy:
        facts, findings = examine(server.endpoint, proxy=proxy.url.replace("://", "://user:secret@"))
        assert findings == []
        assert facts[0] == f"{server.logs_endpoint} is asked by the proxy {proxy.url}"
        assert facts[1].startswith(f"{server.logs_endpoint} answered in ")
        assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("status", "code"), [(407, "endpoint.proxy_unauthorized"), (403, "endpoint.proxy"), (503, "endpoint.proxy")]
)
def test_a_proxy_that_opens_no_tunnel_is_told(status: int, code: str, authority: trustme.CA) -> None:
    with serve_tls(authority, "127.0.0.1") as server, ProxyServer(status=status) as proxy:
        _, (finding,) = examine(server.endpoint, proxy=proxy.url.replace("://", "://user:secret@"))
    assert (finding.severity, finding.code) == ("error", code)
    assert "secret" not in finding.what


def test_a_proxy_that_wants_a_password_before_a_plain_endpoint_is_told(server: OTLPServer) -> None:
    with ProxyServer(status=407) as proxy:
        _, (finding,) = examine(server.endpoint, proxy=proxy.url)
    assert finding.code == "endpoint.proxy_unauthorized"


@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_whose_tls_is_not_as_its_url_says_is_told(
    secure: bool, server: OTLPServer, authority: trustme.CA, authority_file: str
) -> None:
    with serve_tls(authority, "elsewhere.example") if secure else OTLPServer() as other:
        proxy = other.endpoint.replace("http:", "https:")
        _, (finding,) = examine(server.endpoint, proxy=proxy, certificate_file=authority_file)
    assert finding.code == "endpoint.proxy"
    assert "certificate holds" in finding.advice


def test_a_proxy_that_is_not_there_is_told(server: OTLPServer) -> None:
    _, (finding,) = examine(server.endpoint, proxy=f"http://127.0.0.1:{find_free_ports(1)[0]}")
    assert finding.code == "endpoint.proxy"
