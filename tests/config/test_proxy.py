"""Proxies: which one is used, what it is asked for, how it fails, and that its password is in no message."""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests.utils
import trustme

from otelog._config.proxy import choose_proxy, hide_credentials, parse_proxy
from otelog._config.resolve import find_proxy, resolve
from otelog._otlp.exchange import TransportFailure, TransportSettings
from otelog._otlp.open import open_transport
from otelog.exceptions import ConfigurationError
from otelog.testing import OTLPServer, Reply
from tests.proxy_server import ProxyServer
from tools.loopback import find_free_ports

BODY = b"twelve bytes" * 100
SOON = 0.3
LATE = 5.0
CREDENTIALS = "us%20er:p%40ss%3Aword"
AUTHORIZATION = f"Basic {base64.b64encode(b'us er:p@ss:word').decode()}"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, tls: ssl.SSLContext) -> Iterator[OTLPServer]:
    with OTLPServer(tls=tls if request.param == "https" else None) as one:
        yield one


def post(endpoint: str, proxy: str, authority_file: str, times: int = 1, timeout: float = 20.0) -> list[int]:
    settings = TransportSettings(endpoint=endpoint, proxy=proxy, certificate_file=authority_file, timeout=timeout)
    with closing(open_transport(settings)) as transport:
        return [transport.post(BODY).status for _ in range(times)]


def fail(endpoint: str, proxy: str, authority_file: str, timeout: float = 20.0) -> TransportFailure:
    with pytest.raises(TransportFailure) as caught:
        post(endpoint, proxy, authority_file, timeout=timeout)
    assert "ss:word" not in caught.value.detail and "p%40" not in caught.value.detail
    return caught.value


def with_credentials(proxy: ProxyServer) -> str:
    return proxy.url.replace("://", f"://{CREDENTIALS}@")


# --- what the proxy is asked for


def test_a_request_goes_through_the_proxy_and_arrives_as_it_was_given(server: OTLPServer, authority_file: str) -> None:
    with ProxyServer() as proxy:
        assert post(server.logs_endpoint, proxy.url, authority_file, times=2) == [200, 200]
        lines = [asked.line for asked in proxy.asked]
        authority = server.endpoint.partition("://")[2]
        if server.endpoint.startswith("https:"):
            # Both over one tunnel, and nobody but the server reads them.
            assert lines == [f"CONNECT {authority} HTTP/1.1"]
        else:
            assert lines == [f"POST http://{authority}/v1/logs HTTP/1.1"] * 2
        assert {asked.headers["host"] for asked in proxy.asked} == {authority}
        assert not any("proxy-authorization" in asked.headers for asked in proxy.asked)
    assert [request.body for request in server.requests] == [BODY, BODY]


def test_the_proxy_is_told_who_we_are_and_the_server_is_not(server: OTLPServer, authority_file: str) -> None:
    with ProxyServer() as proxy:
        assert post(server.logs_endpoint, with_credentials(proxy), authority_file) == [200]
        assert [asked.headers["proxy-authorization"] for asked in proxy.asked] == [AUTHORIZATION]
    (request,) = server.requests
    assert "proxy-authorization" not in {name.lower() for name in request.headers}


def test_a_proxy_that_speaks_tls_itself_leads_to_any_server(
    server: OTLPServer, tls: ssl.SSLContext, authority_file: str
) -> None:
    with ProxyServer(tls=tls) as proxy:
        assert post(server.logs_endpoint, with_credentials(proxy), authority_file, times=2) == [200, 200]
        assert {asked.headers["proxy-authorization"] for asked in proxy.asked} == {AUTHORIZATION}
        secure = server.endpoint.startswith("https:")
        assert [asked.line.partition(" ")[0] for asked in proxy.asked] == (["CONNECT"] if secure else ["POST"] * 2)
    assert [request.body for request in server.requests] == [BODY, BODY]
    if secure:
        assert server.connections == 1


@pytest.mark.parametrize("body", [os.urandom(5_000_000), b""], ids=["large", "empty"])
def test_any_body_goes_through_tls_inside_of_tls(body: bytes, tls: ssl.SSLContext, authority_file: str) -> None:
    with OTLPServer([Reply(body=bytes(200_000))], tls=tls) as server, ProxyServer(tls=tls) as proxy:
        settings = TransportSettings(
            endpoint=server.logs_endpoint, proxy=proxy.url, certificate_file=authority_file, compression="none"
        )
        with closing(open_transport(settings)) as transport:
            assert transport.post(body, timeout=60.0).body == bytes(200_000)
    assert [request.body for request in server.requests] == [body]


def test_the_servers_certificate_is_checked_behind_the_proxy(tls: ssl.SSLContext, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with OTLPServer(tls=tls) as server, ProxyServer() as proxy:
        failure = fail(server.logs_endpoint, proxy.url, str(other))
    assert "authority that signed it" in failure.detail and not failure.retryable


@pytest.mark.parametrize(
    ("name", "trusted", "said"),
    [
        ("127.0.0.1", False, "the proxy's certificate was refused: .*; set certificate_file to the authority"),
        ("elsewhere.example", True, "the proxy's certificate was refused: .*; the proxy's host must be a name"),
    ],
)
def test_the_proxys_certificate_is_checked_too(
    name: str, trusted: bool, said: str, server: OTLPServer, authority: trustme.CA, authority_file: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (authority if trusted else trustme.CA()).issue_cert(name).configure_cert(context)
    with ProxyServer(tls=context) as proxy:
        failure = fail(server.logs_endpoint, with_credentials(proxy), authority_file)
        assert proxy.asked == []
    assert re.search(said, failure.detail)
    assert (failure.retryable, failure.outcome_unknown) == (False, False)
    assert server.connections == 0


def test_a_proxy_without_tls_is_named(server: OTLPServer, authority_file: str) -> None:
    with OTLPServer() as plain:
        url = plain.endpoint.replace("http://", f"https://{CREDENTIALS}@")
        failure = fail(server.logs_endpoint, url, authority_file)
    assert "the proxy does not speak TLS here" in failure.detail
    assert (failure.retryable, failure.outcome_unknown) == (False, False)
    assert server.connections == 0


def test_only_the_server_is_shown_who_we_are(
    authority: trustme.CA, authority_file: str, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    pair = authority.issue_cert("client.example").private_key_and_cert_chain_pem
    pair.write_to_path(str(tmp_path / "client.pem"))
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(asking)
    authority.configure_trust(asking)
    asking.verify_mode = ssl.CERT_REQUIRED

    def post_by(proxy: ProxyServer, server: OTLPServer) -> int:
        settings = TransportSettings(
            endpoint=server.logs_endpoint,
            proxy=proxy.url,
            certificate_file=authority_file,
            client_certificate_file=str(tmp_path / "client.pem"),
        )
        with closing(open_transport(settings)) as transport:
            return transport.post(BODY).status

    with OTLPServer(tls=asking) as server:
        with ProxyServer(tls=tls) as proxy:
            assert post_by(proxy, server) == 200
        with ProxyServer(tls=asking) as proxy, pytest.raises(TransportFailure) as caught:
            post_by(proxy, server)
        assert "client_certificate_file" not in caught.value.detail


# --- how it fails


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(("status", "retryable"), [(407, False), (403, False), (429, True), (502, True), (503, True)])
def test_a_proxy_that_opens_no_tunnel_says_why(
    status: int, retryable: bool, secure: bool, tls: ssl.SSLContext, authority_file: str
) -> None:
    refusing = ProxyServer(status=status, reason="No\x1b[31m tunnel", tls=tls if secure else None)
    with OTLPServer(tls=tls) as server, refusing as proxy:
        failure = fail(server.logs_endpoint, with_credentials(proxy), authority_file)
        assert f"the proxy {proxy.url} answered {status} No?[31m tunnel" in failure.detail
        assert (failure.retryable, failure.outcome_unknown) == (retryable, False)
    assert server.requests == []


def test_what_a_proxy_answers_to_a_plain_request_is_the_answer(authority_file: str) -> None:
    with OTLPServer() as server, ProxyServer(status=407) as proxy:
        assert post(server.logs_endpoint, with_credentials(proxy), authority_file, times=2) == [407, 407]


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("pace", [None, 0.01])
def test_the_exchanges_time_holds_for_the_proxy_too(
    pace: float | None, secure: bool, server: OTLPServer, tls: ssl.SSLContext, authority_file: str
) -> None:
    with ProxyServer(hang=pace is None, pace=pace, tls=tls if secure else None) as proxy:
        began = time.monotonic()
        failure = fail(server.logs_endpoint, with_credentials(proxy), authority_file, timeout=SOON)
        assert SOON * 0.9 <= time.monotonic() - began < LATE
    assert failure.retryable
    if server.endpoint.startswith("https:"):
        # Nothing was sent to the server.
        assert not failure.outcome_unknown
        assert proxy.url in failure.detail


def test_a_proxy_that_is_not_there_is_named(server: OTLPServer, authority_file: str) -> None:
    url = f"http://{CREDENTIALS}@127.0.0.1:{find_free_ports(1)[0]}"
    failure = fail(server.logs_endpoint, url, authority_file)
    assert f"by the proxy http://127.0.0.1:{url.rpartition(':')[2]}" in failure.detail
    assert (failure.retryable, failure.outcome_unknown) == (True, False)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000])
def test_a_proxy_that_talks_nonsense_is_a_failed_attempt(said: bytes, tls: ssl.SSLContext, authority_file: str) -> None:
    with OTLPServer(tls=tls) as server, socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        failure = fail(server.logs_endpoint, url, authority_file)
        thread.join()
    assert (failure.retryable, failure.outcome_unknown) == (True, False)


# --- which one is used


PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("endpoint", "environ", "chosen"),
    [
        ("http://c:4318/v1/logs", {}, None),
        ("http://c:4318/v1/logs", {"http_proxy": PROXY}, "http_proxy"),
        ("http://c:4318/v1/logs", {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ("http://c:4318/v1/logs", {"HTTP_PROXY": "http://other", "http_proxy": PROXY}, "http_proxy"),
        ("http://c:4318/v1/logs", {"HTTP_PROXY": PROXY, "http_proxy": ""}, None),
        ("http://c:4318/v1/logs", {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, None),
        ("http://c:4318/v1/logs", {"https_proxy": PROXY}, None),
        ("https://c/v1/logs", {"https_proxy": PROXY, "http_proxy": "http://other"}, "https_proxy"),
        ("https://c/v1/logs", {"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        ("https://c/v1/logs", {"http_proxy": PROXY}, None),
        ("https://c/v1/logs", {"ALL_PROXY": PROXY}, "ALL_PROXY"),
        ("https://c/v1/logs", {"all_proxy": "http://other", "HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        ("https://c/v1/logs", {"HTTPS_PROXY": " "}, None),
        ("https://c/v1/logs", {"HTTPS_PROXY": PROXY, "NO_PROXY": "c"}, None),
        ("https://c/v1/logs", {"HTTPS_PROXY": PROXY, "NO_PROXY": "c", "no_proxy": ""}, "HTTPS_PROXY"),
        # Loopback, too, is as the environment says.
        ("http://localhost:4318/v1/logs", {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ("http://127.0.0.1:4318/v1/logs", {"HTTP_PROXY": PROXY, "NO_PROXY": "localhost,127.0.0.1"}, None),
    ],
)
def test_the_environments_variables_are_those_of_the_usual_clients(
    endpoint: str, environ: dict[str, str], chosen: str | None
) -> None:
    found = choose_proxy(endpoint, environ)
    assert found == (None if chosen is None else (chosen, PROXY))


@pytest.mark.parametrize(
    ("environ", "chosen"),
    [
        ({"grpc_proxy": PROXY, "https_proxy": "http://other"}, "grpc_proxy"),
        ({"https_proxy": PROXY, "http_proxy": "http://other"}, "https_proxy"),
        ({"http_proxy": PROXY}, "http_proxy"),
        ({"http_proxy": PROXY, "no_grpc_proxy": "c"}, None),
        ({"http_proxy": PROXY, "no_grpc_proxy": "d", "no_proxy": "c"}, "http_proxy"),
        ({"http_proxy": PROXY, "no_proxy": "c"}, None),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_grpc_has_the_variables_of_its_library(scheme: str, environ: dict[str, str], chosen: str | None) -> None:
    found = choose_proxy(f"{scheme}://c:4317", environ, grpc=True)
    assert found == (None if chosen is None else (chosen, PROXY))


@pytest.mark.parametrize("host", ["collector", "a.example.com", "example.com", "10.1.2.3", "127.0.0.1", "localhost"])
@pytest.mark.parametrize(
    "exceptions",
    [
        "*",
        "collector",
        "example.com",
        ".example.com",
        "EXAMPLE.com",
        "other.com, a.example.com",
        "a.example.com:4318",
        "a.example.com:1",
        "localhost,127.0.0.1",
        "10.0.0.0/8",
        "10.1.2.3",
        "10.1.2.0/30,",
        "10.1.2.4/30",
        "",
        ",,",
        "com.",
        "10.0.0.0/8:4318",
    ],
)
def test_no_proxy_means_what_it_means_to_requests(host: str, exceptions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://{host}:4318/v1/logs"
    environ = {"http_proxy": PROXY, "no_proxy": exceptions}
    monkeypatch.setenv("no_proxy", exceptions)
    if exceptions == "com." or "8:4318" in exceptions:
        expected = host.endswith(".com") if exceptions == "com." else host.startswith("10.")
    else:
        expected = requests.utils.should_bypass_proxies(endpoint, no_proxy=None)
    assert (choose_proxy(endpoint, environ) is None) == expected


@pytest.mark.parametrize(
    ("host", "exceptions", "bypassed"),
    [
        ("badexample.com", "example.com", False),
        ("[::1]", "::1", True),
        ("[::1]", "[::1]", True),
        ("[::1]", "[::1]:4318", True),
        ("[::1]", "[::1]:1", False),
        ("[fd00::5]", "fd00::/8", True),
        ("[fd00::5]", "10.0.0.0/8", False),
        ("10.1.2.3", "fd00::/8,not/a/network,10.1.2.3", True),
        ("collector.", "collector", True),
    ],
)
def test_no_proxy_of_addresses_and_whole_names(host: str, exceptions: str, bypassed: bool) -> None:
    environ = {"http_proxy": PROXY, "no_proxy": exceptions}
    assert (choose_proxy(f"http://{host}:4318/v1/logs", environ) is None) == bypassed


def test_a_proxys_url_is_read_as_people_write_it() -> None:
    assert parse_proxy("proxy:3128")[:3] == (False, "proxy", 3128)
    assert parse_proxy("HTTP://proxy")[:3] == (False, "proxy", 80)
    assert parse_proxy("https://[::1]/")[:3] == (True, "::1", 443)
    assert parse_proxy(f"{CREDENTIALS}@proxy:1").authorization == AUTHORIZATION
    assert "word" not in repr(parse_proxy(f"http://{CREDENTIALS}@proxy:1"))
    assert hide_credentials(f"http://{CREDENTIALS}@proxy:1") == "http://***@proxy:1"
    assert hide_credentials(f"{CREDENTIALS}@proxy:1") == "***@proxy:1"
    assert hide_credentials("http://proxy:1/a@b") == "http://proxy:1/a@b"


BAD = [
    "http://",
    "socks5://user:secret@proxy:1080",
    "http://proxy:99999",
    "http://user:secret@pro xy",
    "http://proxy:0",
]


@pytest.mark.parametrize("url", BAD)
def test_a_proxy_that_cannot_be_used_is_an_error_where_it_was_given_and_a_warning_in_the_environment(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({"proxy": url}, {})
    assert "secret" not in str(caught.value)
    for variable in ("OTELOG_PROXY", "HTTP_PROXY", "all_proxy"):
        settings = resolve({}, {variable: url})
        (warning,) = settings.warnings
        assert warning.startswith(f"{variable}: ") and "secret" not in warning
        assert settings.proxy is None


def test_a_proxy_of_tls_is_refused_for_grpc() -> None:
    grpc = {"endpoint": "https://collector:4317", "protocol": "grpc"}
    with pytest.raises(ConfigurationError, match="proxy"):
        resolve({**grpc, "proxy": "https://proxy"}, {})
    (warning,) = resolve(grpc, {"OTELOG_PROXY": "https://user:secret@proxy"}).warnings
    assert "OTELOG_PROXY" in warning and "secret" not in warning
    (warning,) = resolve(grpc, {"HTTPS_PROXY": "https://user:secret@proxy"}).warnings
    assert "HTTPS_PROXY" in warning and "secret" not in warning


def test_the_option_wins_over_the_environment() -> None:
    environ = {"http_proxy": "http://other", "OTELOG_PROXY": "none"}
    assert find_proxy("none", "http://c", "http/protobuf", environ) is None
    assert find_proxy(PROXY, "http://c", "http/protobuf", environ) == PROXY
    assert resolve({}, environ).proxy == "none"
    assert resolve({"proxy": PROXY}, environ).proxy == PROXY


def test_the_settings_show_no_password() -> None:
    settings = resolve({"proxy": f"http://{CREDENTIALS}@proxy:1"}, {})
    assert "word" not in repr(settings) and "http://***@proxy:1" in repr(settings)
    assert "word" not in repr(TransportSettings(endpoint="http://c", proxy=f"http://{CREDENTIALS}@proxy:1"))


# --- the whole way


PROGRAM = """
import sys, otelog
from opentelemetry import metrics
otelog.configure(**eval(sys.argv[1]))
otelog.get_logger("tests").info("through")
print(otelog.shutdown(20))
"""


def run_program(options: dict[str, object], **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, repr(options)],
        env={**os.environ, "OTEL_METRICS_EXPORTER": "otlp", **environ},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("secure", [False, True])
def test_logs_and_metrics_go_through_the_environments_proxy(
    secure: bool, server: OTLPServer, tls: ssl.SSLContext, authority_file: str
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    options = {"endpoint": server.endpoint, "certificate_file": authority_file}
    with ProxyServer(tls=tls if secure else None) as proxy:
        variable = "HTTPS_PROXY" if server.endpoint.startswith("https:") else "HTTP_PROXY"
        done = run_program(options, **{variable: with_credentials(proxy)})
        assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
        lines = {asked.line for asked in proxy.asked}
        assert {asked.headers["proxy-authorization"] for asked in proxy.asked} == {AUTHORIZATION}
    assert [record.body.string_value for record in server.records] == ["through"]
    assert server.other_signals["/v1/metrics"] >= 1
    if variable == "HTTP_PROXY":
        assert lines == {f"POST {server.endpoint}/v1/{signal} HTTP/1.1" for signal in ("logs", "metrics")}
    else:
        assert len(proxy.asked) == 2 and len(lines) == 1


@pytest.mark.parametrize("by", ["NO_PROXY", "proxy"])
def test_without_a_proxy_where_that_is_said(by: str) -> None:
    with OTLPServer() as server, ProxyServer() as proxy:
        options = {"endpoint": server.endpoint, **({"proxy": "none"} if by == "proxy" else {})}
        environ = {"NO_PROXY": "127.0.0.0/8"} if by == "NO_PROXY" else {}
        done = run_program(options, HTTP_PROXY=proxy.url, **environ)
        assert (done.stdout, done.stderr) == ("True\n", "")
        assert proxy.asked == []
    assert len(server.records) == 1


def test_a_bad_proxy_of_the_environment_is_one_line_and_records_go_without() -> None:
    with OTLPServer() as server:
        done = run_program({"endpoint": server.endpoint}, ALL_PROXY="socks5://user:secret@127.0.0.1:1080")
        assert (done.returncode, done.stdout) == (0, "True\n")
        (line,) = done.stderr.splitlines()
        assert line.startswith("otelog: ALL_PROXY: ") and "secret" not in line
        assert len(server.records) == 1


def test_grpc_goes_through_the_proxy_with_logs_and_metrics() -> None:
    pytest.importorskip("grpc")
    from tests.grpc_server import GrpcServer

    with GrpcServer() as server, ProxyServer() as proxy:
        options = {"endpoint": server.endpoint, "protocol": "grpc"}
        done = run_program(options, HTTPS_PROXY=with_credentials(proxy))
        assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
        assert server.bodies == ["through"]
        assert {asked.line for asked in proxy.asked} == {f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"}
        assert {asked.headers["proxy-authorization"] for asked in proxy.asked} == {AUTHORIZATION}
        count = len(proxy.asked)
        for environ in ({"NO_PROXY": "127.0.0.1"}, {"no_grpc_proxy": "127.0.0.0/8"}, {"OTELOG_PROXY": "none"}):
            done = run_program(options, HTTPS_PROXY=proxy.url, https_proxy=proxy.url, **environ)
            assert (done.stdout, done.stderr) == ("True\n", "")
        assert len(proxy.asked) == count
        assert server.bodies == ["through"] * 4
