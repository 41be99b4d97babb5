"""An HTTP proxy that keeps a list of what it was asked for, and can refuse, hang and dawdle."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from contextlib import closing, suppress
from http.client import HTTPConnection
from types import TracebackType
from typing import NamedTuple

_PIECE = 65536


class Asked(NamedTuple):
    """One request to the proxy: its line, and its header fields by their names in small letters."""

    line: str
    headers: dict[str, str]


class ProxyServer:
    """Opens tunnels (CONNECT), and forwards requests that have a whole URL.

    Args:
        status: Answered to every request instead, where it is not 200.
        reason: What stands behind the status.
        hang: It never answers.
        pace: Seconds between the bytes of an answer that never ends; None: it answers as it should.
        tls: The proxy itself speaks TLS.
    """

    def __init__(
        self,
        *,
        status: int = 200,
        reason: str = "Refused",
        hang: bool = False,
        pace: float | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.asked: list[Asked] = []
        self._answer = (status, reason)
        self._hang, self._pace, self._tls = hang, pace, tls
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self._sockets.append(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
                self._sockets.append(client)
            stream = client.makefile("rb")
            while line := stream.readline().decode("latin-1").strip():
                headers = {}
                while field := stream.readline().decode("latin-1").strip():
                    name, _, value = field.partition(":")
                    headers[name.lower()] = value.strip()
                self.asked.append(Asked(line, headers))
                body = stream.read(int(headers.get("content-length", 0)))
                if not self._answer_one(client, line, headers, body):
                    return

    def _answer_one(self, client: socket.socket, line: str, headers: dict[str, str], body: bytes) -> bool:
        """Returns whether another request may come over this connection."""
        status, reason = self._answer
        method, target, _ = line.split()
        if self._hang:
            self._closing.wait()
            return False
        if self._pace is not None:
            client.sendall(b"HTTP/1.1 200 ")
            while not self._closing.wait(self._pace):
                client.sendall(b"x")
            return False
        if status != 200:
            client.sendall(f"HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\n\r\n".encode())
            return True
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            server = self._connect(host.strip("[]"), int(port))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._pump(client, server)
            return False
        authority, _, path = target.removeprefix("http://").partition("/")
        host, _, port = authority.rpartition(":")
        server = HTTPConnection(host.strip("[]"), int(port))
        passed = {name: value for name, value in headers.items() if not name.startswith("proxy-")}
        with closing(server):
            server.request(method, f"/{path}", body, passed)
            answer = server.getresponse()
            content = answer.read()
        fields = {**dict(answer.getheaders()), "Content-Length": str(len(content))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        client.sendall(f"HTTP/1.1 {answer.status} {answer.reason}\r\n{head}\r\n".encode("latin-1") + content)
        return True

    def _connect(self, host: str, port: int) -> socket.socket:
        server = socket.create_connection((host, port))
        self._sockets.append(server)
        return server

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        # One thread for both ways: no two may use the same TLS at a time.
        with suppress(OSError), selectors.DefaultSelector() as selector:
            for source, target in ((client, server), (server, client)):
                selector.register(source, selectors.EVENT_READ, target)
            while all(_pass_on(key.fileobj, key.data) for key, _ in selector.select()):
                pass
        for one in (client, server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> ProxyServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()


def _pass_on(source: object, target: socket.socket) -> bool:
    """Returns whether there is more to come."""
    assert isinstance(source, socket.socket)
    piece = source.recv(_PIECE)
    target.sendall(piece)
    while isinstance(source, ssl.SSLSocket) and source.pending():
        target.sendall(source.recv(_PIECE))
    return bool(piece)
