"""Files that the environment names: one that cannot be used is a warning, and never ends `configure()`."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from otelog._config.resolve import resolve, resolve_exporter
from otelog.exceptions import ConfigurationError
from otelog.testing import OTLPServer

HTTPS = {"endpoint": "https://127.0.0.1:1"}

PROGRAM = """
import sys, otelog
otelog.configure(endpoint=sys.argv[1], export_timeout_millis=2000)
otelog.get_logger("tests").info("through")
print(otelog.shutdown(20), sum(otelog.stats().dropped.values()))
"""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(authority: trustme.CA, tmp_path: Path) -> Path:
    """Certificate files: right, of another kind, empty."""
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "another.pem"))
    client = authority.issue_cert("client")
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    client.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    trustme.CA().issue_cert("other").private_key_pem.write_to_path(str(tmp_path / "other.key"))
    (tmp_path / "broken.pem").write_text("no certificate")
    (tmp_path / "empty.pem").write_text("")
    return tmp_path


@pytest.fixture
def server(authority: trustme.CA) -> OTLPServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with OTLPServer(tls=context) as one:
        yield one


def run(server: OTLPServer, **environ: str) -> tuple[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, server.endpoint],
        env={**os.environ, **environ},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.strip(), done.stderr.splitlines()


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE"])
@pytest.mark.parametrize("name", ["missing.pem", "broken.pem", "empty.pem"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_authorities_that_cannot_be_used_are_a_warning(variable: str, name: str, protocol: str, folder: Path) -> None:
    if protocol == "grpc":
        pytest.importorskip("grpc")
    path = str(folder / name)
    for found in (
        resolve({**HTTPS, "protocol": protocol}, {variable: path}),
        resolve_exporter({**HTTPS, "protocol": protocol}, {variable: path}),
    ):
        (warning,) = found.warnings
        assert warning.startswith(f"{variable}: ") and path in warning
        assert warning.endswith("; the system's authorities are trusted")
        assert found.certificate_file is None


@pytest.mark.parametrize(
    ("certificate", "key"),
    [("missing.pem", None), ("client.pem", "missing.key"), ("client.pem", "other.key"), ("broken.pem", "client.key")],
)
def test_a_client_certificate_that_cannot_be_used_is_a_warning(certificate: str, key: str | None, folder: Path) -> None:
    environ = {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(folder / certificate)}
    if key is not None:
        environ["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = str(folder / key)
    settings = resolve(HTTPS, environ)
    (warning,) = settings.warnings
    assert warning.startswith(f"{', '.join(environ)}: ")
    assert warning.endswith("no client certificate is shown: a server that asks for one refuses the connection")
    assert (settings.client_certificate_file, settings.client_key_file) == (None, None)


def test_files_that_can_be_used_are(folder: Path) -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(folder / "authority.pem"),
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(folder / "client.pem"),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(folder / "client.key"),
    }
    settings = resolve(HTTPS, environ)
    assert settings.warnings == ()
    assert [settings.certificate_file, settings.client_certificate_file, settings.client_key_file] == [
        *environ.values()
    ]


def test_a_file_that_was_given_by_keyword_is_an_error(folder: Path) -> None:
    import otelog

    for option in ("certificate_file", "client_certificate_file"):
        with pytest.raises(ConfigurationError, match=option):
            otelog.OTLPLogExporter(**HTTPS, **{option: str(folder / "missing.pem")})


def test_nothing_is_looked_at_where_nothing_is_encrypted(folder: Path) -> None:
    settings = resolve({}, {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(folder / "missing.pem")})
    assert settings.warnings == ()


@pytest.mark.parametrize(
    "variables",
    [
        ["OTEL_EXPORTER_OTLP_CERTIFICATE"],
        ["REQUESTS_CA_BUNDLE"],
        ["CURL_CA_BUNDLE"],
        ["SSL_CERT_FILE"],
    ],
    ids=lambda names: names[0],
)
def test_whom_the_environment_trusts_is_trusted(variables: list[str], server: OTLPServer, folder: Path) -> None:
    said, lines = run(server, **{name: str(folder / "authority.pem") for name in variables})
    assert (said, lines) == ("True 0", [])
    assert [record.body.string_value for record in server.records] == ["through"]


@pytest.mark.parametrize("variable", ["SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
def test_a_folder_of_authorities_is_trusted(variable: str, server: OTLPServer, folder: Path) -> None:
    if not any(Path(one, "openssl").exists() for one in os.environ["PATH"].split(os.pathsep)):
        pytest.skip("openssl names the files")
    names = folder / "named"
    names.mkdir()
    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(folder / "authority.pem")]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (names / f"{name}.0").write_bytes((folder / "authority.pem").read_bytes())
    assert run(server, **{variable: str(names)}) == ("True 0", [])


def test_the_first_that_can_be_used_counts(folder: Path) -> None:
    good, missing = str(folder / "authority.pem"), str(folder / "missing.pem")
    settings = resolve(HTTPS, {"REQUESTS_CA_BUNDLE": missing, "CURL_CA_BUNDLE": good})
    assert settings.certificate_file == good
    assert [warning.partition(":")[0] for warning in settings.warnings] == ["REQUESTS_CA_BUNDLE"]
    settings = resolve({**HTTPS, "certificate_file": good}, {"REQUESTS_CA_BUNDLE": missing})
    assert (settings.certificate_file, settings.warnings) == (good, ())
    settings = resolve(HTTPS, {"OTEL_EXPORTER_OTLP_CERTIFICATE": missing, "SSL_CERT_FILE": good})
    assert [warning.partition(":")[0] for warning in settings.warnings] == ["OTEL_EXPORTER_OTLP_CERTIFICATE"]
    # OpenSSL reads it itself, beside the system's.
    assert settings.certificate_file is None


def test_grpc_trusts_whom_the_environment_trusts(authority: trustme.CA, folder: Path) -> None:
    pytest.importorskip("grpc")
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        path = str(folder / "authority.pem")
        assert resolve({**HTTPS, "protocol": "grpc"}, {variable: path}).certificate_file == path


def test_a_missing_file_is_one_line_and_the_process_goes_on(server: OTLPServer, folder: Path) -> None:
    said, lines = run(server, OTEL_EXPORTER_OTLP_CERTIFICATE=str(folder / "missing.pem"))
    # The system's authorities know nothing of this server: its record is lost, and counted.
    assert said == "True 1" or said == "False 1"
    assert lines[0].startswith("otelog: OTEL_EXPORTER_OTLP_CERTIFICATE: ")


@pytest.mark.parametrize("variable", ["OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"])
def test_a_declarative_configuration_is_one_line(variable: str) -> None:
    with OTLPServer() as server:
        said, lines = run(server, **{variable: "sdk.yaml"})
        assert said == "True 0"
        (line,) = lines
        assert line.startswith(f"otelog: {variable}: ") and server.endpoint in line
        assert len(server.records) == 1
