"""The process that runs the shop under waitress."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import waitress.server

import otelog
from otelog.cli.demo.children import leave_with_parent
from otelog.cli.demo.reconciliation import Figures
from otelog.cli.demo.service import SERVICE
from otelog.cli.demo.shop import create_shop

if TYPE_CHECKING:
    from types import FrameType

THREADS = 8


class _Control(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    instance = ""

    def do_GET(self) -> None:
        body = _write_ledger(self.instance).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    """Serve the shop until SIGTERM or the end of standard input, then deliver what is queued and say the final figures.

    Standard output is for the parent: first the line with the shop's URL and that of its ledger, at the end the ledger
    as one JSON line.
    """
    parser = argparse.ArgumentParser(prog="python -m otelog.cli.demo.shop_server", description=main.__doc__)
    parser.add_argument("--endpoint", required=True, help="base URL of the OTLP/HTTP receiver")
    parser.add_argument("--host", default="127.0.0.1", help="address of the shop; in a container 0.0.0.0")
    parser.add_argument("--port", type=int, default=0, help="port of the shop; 0 means any free one")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, _leave)
    # Ctrl-C in the terminal is for the parent, which ends this process when its client is gone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    instance = str(uuid.uuid4())
    otelog.configure(
        service_name=SERVICE,
        endpoint=options.endpoint,
        resource_attributes={"service.instance.id": instance},
    )
    server = waitress.server.create_server(create_shop(), host=options.host, port=options.port, threads=THREADS)
    control = ThreadingHTTPServer(("127.0.0.1", 0), type("Control", (_Control,), {"instance": instance}))
    control.daemon_threads = True
    threading.Thread(target=control.serve_forever, name="shop-control", daemon=True).start()
    leave_with_parent()
    print(
        f"listening on http://127.0.0.1:{server.effective_port} ledger http://127.0.0.1:{control.server_address[1]}/",
        flush=True,
    )
    server.run()
    otelog.shutdown()
    print(_write_ledger(instance), flush=True)


def _write_ledger(instance: str) -> str:
    return json.dumps({"instance": instance, **Figures.of(otelog.stats()).write()})


def _leave(signal_number: int, frame: FrameType | None) -> None:
    # waitress ends its loop on SystemExit and lets the requests that were begun finish. Once is enough.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    main()
