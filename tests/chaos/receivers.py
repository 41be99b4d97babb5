"""Servers that fail as a plan says, outside of the program; what they have kept is the truth."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from otelog.testing import OTLPServer, Reply
from tests.chaos.oracle import ID
from tests.chaos.plan import Plan, Receiver
from tools.loopback import find_free_ports

INSTANCE = "service.instance.id"
POLL = 0.005
MOST_SHOWN = 8192


@dataclass
class Arrivals:
    """What one receiver has kept: ids with how often they came."""

    ids: Counter[str] = field(default_factory=Counter)
    answered: set[str] = field(default_factory=set)
    """Ids of requests that the receiver has answered with success, or means to."""
    without_id: list[str] = field(default_factory=list)
    """What the records say that have no id."""
    instances: dict[str, set[str]] = field(default_factory=dict)
    """Under which instances the records of a process came."""
    fired: Counter[str] = field(default_factory=Counter)
    torn: list[str] = field(default_factory=list)
    """Lines of a file that cannot be read."""
    corrupt: list[str] = field(default_factory=list)
    """Requests that cannot be read."""

    def read(self, text: str, *, answered: bool, instance: str | None = None) -> None:
        """Count one record, by the attribute or message that has its id."""
        id = find_id(text)
        if id is None:
            self.without_id.append(text[:MOST_SHOWN])
        else:
            self.add(id, answered=answered, instance=instance)

    def add(self, id: str, *, answered: bool, instance: str | None = None) -> None:
        """Count one record."""
        self.ids[id] += 1
        if answered:
            self.answered.add(id)
        if instance is not None:
            self.instances.setdefault(id.partition("/")[0], set()).add(instance)


class Opened(Protocol):
    """A receiver that is there."""

    endpoint: str

    def collect(self) -> Arrivals:
        """Return what has come; afterwards it takes nothing any more."""


def find_id(text: str) -> str | None:
    """Return the id in a record's attribute or message."""
    found = ID.search(text)
    return found[1] if found else None


def _add_request(arrivals: Arrivals, body: bytes, rejected: int, *, answered: bool) -> None:
    records = []
    try:
        request = ExportLogsServiceRequest.FromString(body)
    except DecodeError as error:
        arrivals.corrupt.append(f"{error}: {len(body)} bytes, {body[:MOST_SHOWN].hex()}")
        return
    for resource in request.resource_logs:
        instance = next((one.value.string_value for one in resource.resource.attributes if one.key == INSTANCE), None)
        records += [(record, instance) for scope in resource.scope_logs for record in scope.log_records]
    for record, instance in records[: max(0, len(records) - rejected)]:
        id = next((one.value.string_value for one in record.attributes if one.key == "id"), record.body.string_value)
        arrivals.read(id, answered=answered, instance=instance)


class _HttpReceiver:
    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self._name, self._folder = receiver.name, folder
        self._faults = receiver.faults
        self._closing = threading.Event()
        self._refused = receiver.faults[:1] == ("refuse",)
        self._server: OTLPServer | None = None
        self._tls = None
        if receiver.kind == "https":
            authority, self._tls = make_tls()
            (folder / "authority.pem").write_bytes(authority)
        if self._refused:
            (self._port,) = find_free_ports(1)
            self.endpoint = f"{receiver.kind}://127.0.0.1:{self._port}"
            (folder / f"refuse-{self._name}").touch()
        else:
            self._server = self._open(0)
            self.endpoint = self._server.endpoint
        if self._faults:
            (folder / f"pending-{self._name}").touch()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _open(self, port: int) -> OTLPServer:
        return OTLPServer([_http_reply(fault) for fault in self._faults if fault != "refuse"], tls=self._tls, port=port)

    def _watch(self) -> None:
        # The program says that it was refused, and waits until everything that was planned has happened.
        while not self._closing.wait(POLL):
            if self._server is None:
                if (self._folder / f"refuse-{self._name}").exists():
                    continue
                self._server = self._open(self._port)
            if not self._server.script:
                (self._folder / f"pending-{self._name}").unlink(missing_ok=True)
                return

    def collect(self) -> Arrivals:
        self._closing.set()
        self._watcher.join()
        arrivals = Arrivals()
        if self._server is None:
            return arrivals
        left = len(self._server.script)
        self._server.close()
        fired = [fault for fault in self._faults if fault != "refuse"]
        arrivals.fired.update(fired[: len(fired) - left])
        if self._refused:
            arrivals.fired["refuse"] += 1
        for request in self._server.requests:
            if 200 <= request.reply.status < 300:
                answered = request.reply.fault in (None, "endless_body")
                _add_request(arrivals, request.body, request.reply.rejected, answered=answered)
        return arrivals


@lru_cache(maxsize=1)
def make_tls() -> tuple[bytes, ssl.SSLContext]:
    """Return an authority's certificate (PEM), and a server's context with one of that authority's."""
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return authority.cert_pem.bytes(), context


def _http_reply(fault: str) -> Reply:
    soon = {"Retry-After": "0.05"}
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=1), usegmt=True)
    return {
        "503": Reply(status=503, headers=soon),
        "503-slow": Reply(status=503),
        "429": Reply(status=429, headers=soon),
        "429-date": Reply(status=429, headers={"Retry-After": date}),
        "502": Reply(status=502, headers=soon, body=b"<html>bad gateway</html>"),
        "413": Reply(status=413),
        "400": Reply(status=400, body=b"\xff" * 20),
        "404": Reply(status=404),
        "302": Reply(status=302, headers={"Location": "http://127.0.0.1:9/"}),
        "cut-request": Reply(fault="reset_request"),
        "cut-answer": Reply(fault="reset_answer"),
        "close": Reply(fault="close"),
        "hang": Reply(fault="hang"),
        "late": Reply(delay=0.1),
        "too-late": Reply(delay=0.6),
        "partial": Reply(rejected=3, message="three are too old"),
        "garbage": Reply(body=b"\xff\xfe garbage \x00"),
        "endless-body": Reply(fault="endless_body"),
        "endless-headers": Reply(fault="endless_headers"),
    }[fault]


class _GrpcReceiver:
    def __init__(self, receiver: Receiver, folder: Path) -> None:
        import grpc

        self._grpc = grpc
        self._faults = list(receiver.faults)
        self._pending = folder / f"pending-{receiver.name}"
        if self._faults:
            self._pending.touch()
        self._lock = threading.Lock()
        self._fired: Counter[str] = Counter()
        self._kept: list[tuple[bytes, int, bool]] = []
        self._closing = threading.Event()
        self._restarting: list[threading.Thread] = []
        self._pool = ThreadPoolExecutor(8)
        self._server = self._start(0)
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def _start(self, port: int) -> Any:
        receiver = self

        class Handler(self._grpc.GenericRpcHandler):  # type: ignore[name-defined,misc]
            def service(self, details: Any) -> Any:
                return receiver._grpc.unary_unary_rpc_method_handler(receiver._answer)

        server = self._grpc.server(self._pool, (Handler(),), options=[("grpc.so_reuseport", 0)])
        self._port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        return server

    def _answer(self, request: bytes, context: Any) -> bytes:
        codes = self._grpc.StatusCode
        with self._lock:
            fault = self._faults.pop(0) if self._faults else "none"
            stored = fault in ("none", "hang", "late", "partial", "garbage", "stored-ABORTED", "restart")
            if stored:
                told = fault not in ("hang", "stored-ABORTED", "restart")
                self._kept.append((request, 2 if fault == "partial" else 0, told))
            if fault != "none":
                self._fired[fault] += 1
            if not self._faults:
                self._pending.unlink(missing_ok=True)
        if fault == "hang":
            self._closing.wait(5.0)
        elif fault == "late":
            self._closing.wait(0.1)
        elif fault == "restart":
            thread = threading.Thread(target=self._restart)
            self._restarting.append(thread)
            thread.start()
            self._closing.wait(0.3)
        if fault in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"):
            context.set_trailing_metadata((("grpc-status-details-bin", _retry_soon()),))
        if not stored or fault == "stored-ABORTED":
            context.abort(codes[fault.removeprefix("stored-").removesuffix("-final")], "said the server")
        if fault == "garbage":
            return b"\xff\xfe garbage"
        answer = ExportLogsServiceResponse()
        if fault == "partial":
            answer.partial_success.rejected_log_records = 2
            answer.partial_success.error_message = "two are too old"
        body: bytes = answer.SerializeToString()
        return body

    def _restart(self) -> None:
        self._server.stop(None).wait()
        self._server = self._start(self._port)

    def collect(self) -> Arrivals:
        self._closing.set()
        for thread in self._restarting:
            thread.join()
        self._server.stop(None).wait()
        self._pool.shutdown()
        arrivals = Arrivals(fired=self._fired)
        for body, rejected, told in self._kept:
            _add_request(arrivals, body, rejected, answered=told)
        return arrivals


def _retry_soon() -> bytes:
    from google.protobuf.duration_pb2 import Duration
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    status = Status()
    status.details.add().Pack(RetryInfo(retry_delay=Duration(nanos=50_000_000)))
    body: bytes = status.SerializeToString()
    return body


class _Lines:
    """Lines of JSON in files."""

    def __init__(self, find: Callable[[], Iterable[Path]], endpoint: str = "") -> None:
        self._find = find
        self.endpoint = endpoint

    def collect(self) -> Arrivals:
        arrivals = Arrivals()
        for path in self._find():
            content = path.read_bytes()
            for line in (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines():
                try:
                    values = json.loads(line)
                except ValueError:
                    arrivals.torn.append(f"{path.name}: {line[:200]!r}")
                    continue
                arrivals.read(str(values.get("id", values.get("message"))), answered=True)
        return arrivals


class _ForeignReceiver:
    """What the program's own exporters have written; a line of ids for each batch that they have taken."""

    endpoint = ""

    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self._name, self._folder = receiver.name, folder

    def collect(self) -> Arrivals:
        arrivals = Arrivals()
        for path in self._folder.glob(f"foreign-{self._name}~*"):
            for line in path.read_text(encoding="utf-8").splitlines():
                mark, _, id = line.partition(" ")
                if mark == "fired":
                    arrivals.fired[id] += 1
                else:
                    arrivals.read(id, answered=mark == "taken")
        return arrivals


def open_receivers(plan: Plan, folder: Path) -> dict[str, Opened]:
    """Open what a plan's program sends to, by the exporters' names; its files are in `folder`."""
    return {one.name: _open(one, folder) for one in (*plan.receivers, *((plan.second,) if plan.second else ()))}


def _open(receiver: Receiver, folder: Path) -> Opened:
    if receiver.kind in ("http", "https"):
        return _HttpReceiver(receiver, folder)
    if receiver.kind == "grpc":
        return _GrpcReceiver(receiver, folder)
    if receiver.kind == "file":
        logs = folder / f"logs-{receiver.name}"
        return _Lines(lambda: [path for path in sorted(logs.glob("app*")) if path.suffix in (".log", ".gz")], str(logs))
    if receiver.kind == "console":
        return _Lines(lambda: [folder / "stdout"])
    return _ForeignReceiver(receiver, folder)
