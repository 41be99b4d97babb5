"""A real Collector behind TLS, mTLS and a token, over HTTP and gRPC, with each of the three ways to say so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme
import yaml

from tests.stack.conftest import Collector, attribute, start_collector

COUNT = 10
SECONDS = 60
VARIABLES = {
    "endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "protocol": "OTEL_EXPORTER_OTLP_PROTOCOL",
    "certificate_file": "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "client_certificate_file": "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "client_key_file": "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "export_timeout_millis": "OTEL_BLRP_EXPORT_TIMEOUT",
    "headers": "OTEL_EXPORTER_OTLP_HEADERS",
}
TOKEN = "s3cret-token"
PROGRAM = f"""
import json, sys
import otelog

otelog.configure(service_name="tls", **json.loads(sys.argv[1]))
log = otelog.get_logger("tls")
for number in range({COUNT}):
    log.info("record %d", number, number=number)
delivered = otelog.flush(30.0) and otelog.shutdown(30.0)
stats = otelog.stats()
print(json.dumps({{"delivered": delivered, "exported": stats.exported, "lost": stats.lost, "resent": stats.resent}}))
"""


@dataclass(frozen=True)
class Files:
    """What `trustme` has made, as files."""

    authority: str
    server: str
    server_key: str
    misnamed: str
    misnamed_key: str
    client: str
    client_key: str
    other_authority: str
    other_client: str
    other_client_key: str


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")

    def write(name: str, *blobs: trustme.Blob) -> str:
        path = folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        path.chmod(0o600)
        return str(path)

    authority, other = trustme.CA(), trustme.CA()
    server, client = authority.issue_cert("127.0.0.1", "localhost"), authority.issue_cert("client@example.org")
    misnamed = authority.issue_cert("elsewhere.example.org")
    stranger = other.issue_cert("client@example.org")
    return Files(
        write("ca.pem", authority.cert_pem),
        write("server.pem", *server.cert_chain_pems),
        write("server.key", server.private_key_pem),
        write("misnamed.pem", *misnamed.cert_chain_pems),
        write("misnamed.key", misnamed.private_key_pem),
        write("client.pem", *client.cert_chain_pems),
        write("client.key", client.private_key_pem),
        write("other-ca.pem", other.cert_pem),
        write("other-client.pem", *stranger.cert_chain_pems),
        write("other-client.key", stranger.private_key_pem),
    )


class Secured:
    """A Collector whose receiver is "plain", speaks "tls", or "mtls", or TLS with another host's name ("misnamed").

    With "token" it speaks TLS, and takes nothing without a bearer token.
    """

    def __init__(self, collector: Collector, security: str, files: Files) -> None:
        self.collector = collector
        self._security = security
        self._files = files

    def options(self, protocol: str, **changed: Any) -> dict[str, Any]:
        """What a client has to be told."""
        base = self.collector.grpc_endpoint if protocol == "grpc" else self.collector.endpoint
        options: dict[str, Any] = {"endpoint": base, "protocol": protocol}
        if self._security != "plain":
            options |= {"endpoint": base.replace("http://", "https://"), "certificate_file": self._files.authority}
        if self._security == "mtls":
            options |= {"client_certificate_file": self._files.client, "client_key_file": self._files.client_key}
        if self._security == "token":
            options["headers"] = {"authorization": f"Bearer {TOKEN}"}
        options |= changed
        return {name: value for name, value in options.items() if value is not None}

    def numbers(self) -> list[int]:
        """End the Collector, and return what it has written."""
        self.collector.stop()
        if not self.collector.file.exists():
            return []
        return [int(attribute(record["attributes"], "number")) for _, record in self.collector.records()]


@pytest.fixture
def secured(request: pytest.FixtureRequest, collector_binary: Path, tmp_path: Path, files: Files) -> Iterator[Secured]:
    security: str = request.param
    overlays: tuple[str, ...] = () if security == "plain" else ("tls.yaml",)
    environ = {"OTELOG_COLLECTOR_CERTIFICATE": files.server, "OTELOG_COLLECTOR_KEY": files.server_key}
    if security == "misnamed":
        environ = {"OTELOG_COLLECTOR_CERTIFICATE": files.misnamed, "OTELOG_COLLECTOR_KEY": files.misnamed_key}
    if security == "mtls":
        environ["OTELOG_COLLECTOR_CLIENT_CA"] = files.authority
    if security == "token":
        overlays += ("token.yaml",)
        token_file = tmp_path / "token"
        token_file.write_text(TOKEN)
        environ["OTELOG_COLLECTOR_TOKEN_FILE"] = str(token_file)
    with start_collector(collector_binary, tmp_path, overlays, environ) as collector:
        yield Secured(collector, security, files)


def run(
    keywords: dict[str, Any] | None = None, environ: dict[str, str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Send ten records in a process of their own; returns its books and what it said on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(keywords or {})],
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    books: dict[str, Any] = json.loads(done.stdout)
    return books, done.stderr.splitlines()


def to_variable(value: Any) -> str:
    """A value as the environment has it."""
    if isinstance(value, dict):
        return ",".join(f"{name}={quote(text)}" for name, text in value.items())
    return str(value)


def run_as(way: str, options: dict[str, Any], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Send ten records with these options by keyword, by environment or from a file."""
    if way == "keywords":
        return run(options)
    if way == "environment":
        return run(environ={VARIABLES[name]: to_variable(value) for name, value in options.items()})
    path = folder / "otelog.yaml"
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    return run(environ={"OTELOG_CONFIG_FILE": str(path)})


@pytest.mark.parametrize("way", ["keywords", "environment", "file"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("secured", ["plain", "tls", "mtls", "token"], indirect=True)
def test_a_collector_has_exactly_the_records(secured: Secured, protocol: str, way: str, tmp_path: Path) -> None:
    books, said = run_as(way, secured.options(protocol), tmp_path)
    assert books == {"delivered": True, "exported": COUNT, "lost": 0, "resent": 0}
    assert said == []
    assert secured.numbers() == list(range(COUNT))


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("secured", ["mtls"], indirect=True)
def test_one_file_may_hold_the_clients_certificate_and_key(secured: Secured, protocol: str, tmp_path: Path) -> None:
    options = secured.options(protocol)
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(Path(options.pop(f"client_{what}_file")).read_bytes() for what in ("key", "certificate")))
    books, said = run({**options, "client_certificate_file": str(both)})
    assert (books["exported"], said) == (COUNT, [])


def check_loss(secured: Secured, options: dict[str, Any], words: str) -> None:
    """All is lost and counted, and the first line says why; nothing else than otelog has said anything."""
    books, said = run({**options, "export_timeout_millis": 1500})
    assert (books["delivered"], books["exported"], books["lost"]) == (False, 0, COUNT)
    assert words in said[0]
    assert all(line.startswith(("otelog: ", '{"otelog": "receipt"')) for line in said), said
    assert secured.numbers() == []


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("secured", ["tls"], indirect=True)
def test_a_server_that_the_given_authority_has_not_signed_gets_nothing(
    secured: Secured, protocol: str, files: Files
) -> None:
    options = secured.options(protocol, certificate_file=files.other_authority)
    check_loss(secured, options, "set certificate_file to the authority that signed it")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("secured", ["misnamed"], indirect=True)
def test_a_server_of_another_name_gets_nothing(secured: Secured, protocol: str) -> None:
    check_loss(secured, secured.options(protocol), "must be a name that the certificate holds")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("secured", ["mtls"], indirect=True)
def test_without_a_clients_certificate_nothing_arrives(secured: Secured, protocol: str) -> None:
    options = secured.options(protocol, client_certificate_file=None, client_key_file=None)
    check_loss(secured, options, "client_certificate_file")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("secured", ["mtls"], indirect=True)
def test_with_the_certificate_of_a_stranger_nothing_arrives(secured: Secured, protocol: str, files: Files) -> None:
    options = secured.options(
        protocol, client_certificate_file=files.other_client, client_key_file=files.other_client_key
    )
    check_loss(secured, options, "client_certificate_file")


@pytest.mark.parametrize("headers", [None, {"authorization": "Bearer another"}])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("secured", ["token"], indirect=True)
def test_without_the_token_nothing_arrives(secured: Secured, protocol: str, headers: dict[str, str] | None) -> None:
    check_loss(secured, secured.options(protocol, headers=headers), "check the credentials in headers")


@pytest.mark.parametrize("secured", ["tls"], indirect=True)
def test_grpc_without_tls_is_told_that_the_server_may_want_it(secured: Secured) -> None:
    options = secured.options("grpc", endpoint=secured.collector.grpc_endpoint, certificate_file=None)
    check_loss(secured, options, "use https://")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("secured", ["plain"], indirect=True)
def test_tls_towards_a_server_without_it_is_told_so(secured: Secured, protocol: str, files: Files) -> None:
    endpoint = secured.options(protocol)["endpoint"].replace("http://", "https://")
    options = secured.options(protocol, endpoint=endpoint, certificate_file=files.authority)
    check_loss(secured, options, "the server does not speak TLS here")
