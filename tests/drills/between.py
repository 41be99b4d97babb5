"""A server between two others, which forwards what comes, or does something else with logs."""

from __future__ import annotations

import http.client
import http.server
import threading

SECONDS = 60.0


class Between:
    """Forwards each request to a port of this machine.

    Args:
        port: That port.
        answer: The status for logs that are swallowed.

    Attributes:
        mode: What becomes of logs: "pass", "swallow" (answered as if all was well), "refuse" (for good), "hold" (until
            `release`).
        swallowed: Requests that were.
    """

    def __init__(self, port: int, answer: int) -> None:
        self.mode = "pass"
        self.swallowed = 0
        self._released = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                mode = outer.mode if self.path.endswith("/logs") else "pass"
                if mode == "swallow":
                    outer.swallowed += 1
                    self._answer(answer)
                    return
                if mode == "refuse":
                    self._answer(400)
                    return
                if mode == "hold":
                    outer._released.wait(SECONDS)
                self._forward(body)

            def _forward(self, body: bytes) -> None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
                fields = self.headers.items()
                kept = {name: value for name, value in fields if name.lower() not in ("host", "connection")}
                try:
                    connection.request("POST", self.path, body, kept)
                    reply = connection.getresponse()
                    content = reply.read()
                except OSError:
                    self._answer(503)
                    return
                finally:
                    connection.close()
                self._answer(reply.status, content, reply.getheader("Content-Type", "application/x-protobuf"))

            def _answer(self, status: int, content: bytes = b"", kind: str = "application/x-protobuf") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                if status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A sender has gone away."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def hold(self) -> None:
        self._released.clear()
        self.mode = "hold"

    def release(self) -> None:
        self.mode = "pass"
        self._released.set()

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
