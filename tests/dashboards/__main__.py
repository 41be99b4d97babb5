"""How long each query of each board takes, in a real Loki and a real Prometheus that hold a day.

``python -m tests.dashboards``: a day of 20 records a second, and in it an hour of 2,000 a second. Writes
benchmarks/results/boards.md. --busy and --quiet write fewer.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.machine import machine_facts
from tests.dashboards.grafana import Target, targets
from tests.stack.binaries_dash import find_binary
from tests.stack.loki_server import LokiServer
from tests.stack.servers_dash import open_url
from tools.loopback import find_free_ports
from tools.waiting import end_process, wait_until

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "boards.md"

SERVICES = ("shop/checkout", "shop/desk", "shop/search")
DAY, HOUR = 24 * 3600, 3600
QUIET, BUSY = 20, 2000
BUSY_HOURS_AGO = 4
PART = 5000
"""Records of a request."""

SCRAPE = 30
"""Seconds between two samples; the stack's own are 5 apart."""
INSTANCES = 2
"""Of each service."""

MOST_SECONDS = 60
ROUNDS = 3
AIM_PROMETHEUS, AIM_LOKI, AIM_DAY = 1.0, 2.0, 5.0

TEXT = f"""Written by `python -m tests.dashboards`, {{date}}, {{cores}} cores of {{processor}}. Seconds.

A real Loki holds a day of {{records:,}} records of {len(SERVICES)} services: {{quiet:g}} a second, and in an hour of it
(the busy hour) {{busy:g}} a second; it took them in {{filled:.0f}} s. A real Prometheus holds two days of {{series}}
series, a sample each {SCRAPE} s. Each query alone, the median of {ROUNDS} times; over 24 h, and where it took longer
than {AIM_LOKI:g} s, one time. It is given up after {MOST_SECONDS} s. Aims: Prometheus {AIM_PROMETHEUS:g} s and Loki
{AIM_LOKI:g} s over the last hour, which is what a board opens with; {AIM_DAY:g} s over 24 h."""

STACK = "Traceback (most recent call last):\\n" + "".join(
    f'  File \\"/app/shop/module_{number}.py\\", line {number}, in function_{number}\\n    call_{number}()\\n'
    for number in range(12)
)


@dataclass(frozen=True)
class Window:
    """A time range, as it is chosen in Grafana."""

    name: str
    begin: float
    end: float
    step: int

    @property
    def seconds(self) -> int:
        return round(self.end - self.begin)


def make_kinds(service: str, chance: random.Random) -> list[str]:
    """What some hundred kinds of records have beside time and line, as JSON; ``%032x`` is the trace."""
    kinds = []
    for number in range(200):
        error = number % 100 == 0
        fields = {
            "severity_number": "17" if error else "9",
            "severity_text": "ERROR" if error else "INFO",
            "detected_level": "error" if error else "info",
            "scope_name": f"shop.module_{number % 12}",
            "trace_id": "%032x",
            "span_id": f"{chance.getrandbits(64):016x}",
            "service_instance_id": f"{service}-{number % INSTANCES}",
            "code_file_path": f"/app/shop/module_{number % 12}.py",
            "code_function_name": f"function_{number % 40}",
            "code_line_number": str(number),
            "telemetry_sdk_name": "opentelemetry",
            "telemetry_sdk_language": "python",
        }
        if number % 5 == 0:
            fields |= {
                "http_request_method": "GET",
                "http_route": f"/route/{number % 9}",
                "http_response_status_code": "500" if error else "200",
                "http_server_request_duration": f"{chance.expovariate(10):.6f}",
                "request_id": f"{chance.getrandbits(128):032x}",
            }
        if number % 20 == 1:
            fields |= {
                "gen_ai_operation_name": "chat",
                "gen_ai_request_model": f"model-{number % 3}",
                "gen_ai_usage_input_tokens": str(chance.randrange(1000)),
                "gen_ai_usage_output_tokens": str(chance.randrange(300)),
                "gen_ai_client_operation_duration": f"{chance.expovariate(1):.6f}",
            }
        if error:
            fields |= {
                "exception_type": f"Error{number}",
                "exception_message": "it failed",
                "exception_stacktrace": "STACK",
            }
        kinds.append(json.dumps(fields).replace("STACK", STACK))
    return kinds


def fill_loki(loki: LokiServer, now: int, quiet: float, rush: float) -> int:
    """Put a day of records into it, in the order of their times; returns how many."""
    chance = random.Random(1)
    kinds = {service: make_kinds(service, chance) for service in SERVICES}
    where = urlsplit(loki.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=120)
    busy = now - BUSY_HOURS_AGO * HOUR
    count = 0
    for begin in range(now - DAY, now, 60):
        rate = rush if busy <= begin < busy + HOUR else quiet
        for service in SERVICES:
            number = round(60 * rate / len(SERVICES))
            for first in range(0, number, PART):
                apart = 60 * 10**9 // number
                entries = ",".join(
                    f'["{begin * 10**9 + place * apart}","record {place} of a usual length, with 1 or 2 values",'
                    f"{kinds[service][chance.randrange(200)] % chance.getrandbits(100)}]"
                    for place in range(first, min(first + PART, number))
                )
                namespace, name = service.split("/")
                labels = {"service_name": name, "service_namespace": namespace, "deployment_environment_name": "test"}
                body = f'{{"streams":[{{"stream":{json.dumps(labels)},"values":[{entries}]}}]}}'
                connection.request("POST", "/loki/api/v1/push", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                assert answer.status == 204, text
            count += number
    # What is older than three hours is asked for from the disk alone.
    connection.request("POST", "/flush")
    connection.getresponse().read()

    def written() -> bool:
        connection.request("GET", "/metrics")
        sizes = re.findall(rb"(?m)^loki_ingester_flush_queue_length (\S+)$", connection.getresponse().read())
        return [float(size) for size in sizes] == [0.0]

    wait_until(written, 300, what="Loki to have written what it has")
    connection.close()
    return count


def make_series() -> Iterator[tuple[str, str, float]]:
    """Metric, labels and growth a second (0: a gauge) of what applications, Collector and Loki export."""
    yield from make_series_of_applications()
    yield from make_series_of_servers()


def make_series_of_applications() -> Iterator[tuple[str, str, float]]:
    for service in SERVICES:
        for number in range(INSTANCES):
            who = f'job="{service}",instance="{service.split("/")[1]}-{number}"'
            processor = f'{who},otel_component_name="p/0",otel_component_type="batching_log_processor"'
            exporter = f'{who},otel_component_name="e/0",otel_component_type="otlp_http_log_exporter"'
            yield "otel_sdk_log_created_total", processor, 10
            yield "otel_sdk_exporter_log_exported_total", f'{exporter},error_type=""', 10
            for reason in (
                "encode_error",
                "too_large",
                "rejected",
                "retry_exhausted",
                "handoff_full",
                "shutdown_timeout",
            ):
                yield "otel_sdk_exporter_log_exported_total", f'{exporter},error_type="{reason}"', 0.001
                yield "otelog_log_dropped_total", f'{exporter},reason="{reason}",otelog_severity="info"', 0.001
            for reason in ("queue_full", "too_large", "already_shutdown", "reentrant"):
                yield "otelog_log_refused_total", f'{processor},reason="{reason}",otelog_severity="info"', 0.001
            for name in ("filtered", "resent", "outcome_unknown", "truncated"):
                yield f"otelog_log_{name}_total", exporter, 0.001
            for name in ("otel_sdk_processor_log_queue_size", "otel_sdk_processor_log_queue_capacity"):
                yield name, processor, 0
            yield "otelog_log_queue_peak", processor, 0
            yield "otelog_log_start_time_seconds", processor, 0
            yield "otel_sdk_exporter_log_inflight", exporter, 0
            yield "target_info", f'{who},host_name="web-1",process_pid="{number}"', 0
            yield (
                "otelog_collector_reports_total",
                f'job="{service}",service_instance_id="{service.split("/")[1]}-{number}"',
                1 / 60,
            )
        for severity in ("trace", "debug", "info", "warn", "error", "fatal"):
            yield "otelog_collector_log_records_total", f'job="{service}",severity="{severity}"', 4
        yield "otelog:missing_in_collector:records", f'job="{service}"', 0


def make_series_of_servers() -> Iterator[tuple[str, str, float]]:
    collector = 'job="otelog-collector",instance="collector:8888"'
    for exporter in ("otlp_http/loki", "file/app", "file/errors", "file/ai"):
        for name in ("sent", "send_failed", "enqueue_failed"):
            yield f"otelcol_exporter_{name}_log_records_total", f'{collector},exporter="{exporter}"', 5
        for name in ("queue_size", "queue_capacity", "in_flight_requests"):
            yield f"otelcol_exporter_{name}", f'{collector},exporter="{exporter}"', 0
        yield "otelog:missing_in_output:records", f'exporter="{exporter}"', 0
    for name in ("accepted", "refused", "failed"):
        yield f"otelcol_receiver_{name}_log_records_total", f'{collector},receiver="otlp",transport="http"', 20
    for name in ("otelcol_process_memory_rss_bytes", "otelcol_process_runtime_heap_alloc_bytes"):
        yield name, collector, 0
    yield "otelcol_process_uptime_seconds_total", collector, 1
    loki = 'job="loki",instance="loki:3100"'
    for name in ("memory_streams", "memory_chunks", "wal_disk_usage_percent"):
        yield f"loki_ingester_{name}", loki, 0
    for name in (
        "loki_ingester_wal_logged_bytes",
        "loki_ingester_wal_disk_full_failures",
        "loki_distributor_lines_received",
    ):
        yield f"{name}_total", loki, 20
    for reason in ("line_too_long", "rate_limited", "too_far_behind"):
        yield "loki_discarded_samples_total", f'{loki},reason="{reason}"', 0.01
    for route in ("otlp_v1_logs", "loki_api_v1_query", "loki_api_v1_query_range", "loki_api_v1_labels"):
        for number, bound in enumerate(("0.005", "0.01", "0.05", "0.1", "0.5", "1", "5", "10", "60", "+Inf")):
            yield (
                "loki_request_duration_seconds_bucket",
                f'{loki},route="{route}",method="POST",le="{bound}"',
                1 + number,
            )
    for job in ("otelog-collector", "loki", "prometheus", "alertmanager"):
        for name in ("up", "scrape_duration_seconds", "process_resident_memory_bytes"):
            yield name, f'job="{job}",instance="{job}:1"', 0
    yield "prometheus_tsdb_head_series", 'job="prometheus",instance="prometheus:1"', 0
    yield "prometheus_rule_evaluation_failures_total", 'job="prometheus",instance="prometheus:1"', 0.001
    for name in ("OtelogRecordsLost", "OtelogWatchdog"):
        yield "ALERTS", f'alertname="{name}",alertstate="firing",severity="critical"', 0
    yield "otelog:missing_in_loki:records", 'job="loki"', 0


def write_blocks(folder: Path, now: int) -> int:
    """Have promtool make a Prometheus' data of two days of samples; returns how many series."""
    by_name: dict[str, list[tuple[str, float]]] = {}
    for name, labels, growth in make_series():
        by_name.setdefault(name, []).append((labels, growth))
    text = folder / "samples.txt"
    times = range(now - 2 * DAY, now, SCRAPE)
    with text.open("w") as file:
        for name, series in by_name.items():
            # Prometheus takes a name with a suffix of counters as it is, if nothing says what kind it is.
            for labels, growth in series:
                line = f"{name}{{{labels}}}"
                file.writelines(f"{line} {(at - times[0]) * growth if growth else 1} {at}\n" for at in times)
        file.write("# EOF\n")
    command = [
        str(find_binary("promtool")),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        str(text),
        str(folder / "data"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    text.unlink()
    return sum(map(len, by_name.values()))


@contextmanager
def run_prometheus(folder: Path) -> Iterator[str]:
    """Start one that scrapes nothing and holds these blocks; gives its URL."""
    (port,) = find_free_ports(1)
    (folder / "prometheus.yaml").write_text("global: {}\n", encoding="utf-8")
    command = [
        str(find_binary("prometheus")),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    url = f"http://127.0.0.1:{port}"
    with (folder / "prometheus.log").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)

    def ready() -> bool:
        try:
            with open_url(f"{url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until(ready, 60, what="Prometheus' readiness")
        yield url
    finally:
        end_process(process, 20)


def ask(target: Target, window: Window, base: str) -> tuple[float, bool]:
    """How long a query takes, in seconds, and whether it has data; a minute is all it is given."""
    query = {"query": target.fill_in(window=f"{window.seconds}s", seconds=window.step)}
    if target.instant:
        path, times = "query", {"time": str(window.end)}
    else:
        path, times = "query_range", {"start": str(window.begin), "end": str(window.end), "step": str(window.step)}
        if target.of_loki:
            times["limit"] = str(target.query["maxLines"])
    began = time.monotonic()
    try:
        with open_url(f"{base}/{path}?{urllib.parse.urlencode({**query, **times})}", timeout=MOST_SECONDS) as answer:
            data = json.load(answer)["data"]["result"]
    except (TimeoutError, ConnectionError):
        # Loki ends a connection whose answer takes longer than its server's bound.
        return MOST_SECONDS, False
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{target.name}: {error.read().decode(errors='replace')}") from None
    return time.monotonic() - began, bool(data)


def measure(loki: str, prometheus: str, windows: list[Window]) -> list[tuple[Target, dict[str, float], bool]]:
    """The median time of each query over each window; of what is slow, and over the last, which is long, one time."""
    rows = []
    for target in targets():
        base = f"{loki}/loki/api/v1" if target.of_loki else f"{prometheus}/api/v1"
        taken, found = {}, False
        for window in windows:
            rounds = [ask(target, window, base)]
            # What is slow is so by far more than by chance.
            while len(rounds) < ROUNDS and window is not windows[-1] and rounds[0][0] < AIM_LOKI:
                rounds.append(ask(target, window, base))
            taken[window.name] = statistics.median(seconds for seconds, _ in rounds)
            found = found or any(data for _, data in rounds)
        rows.append((target, taken, found))
        print(f"{target.name}: {', '.join(f'{name} {seconds:.2f}' for name, seconds in taken.items())}", flush=True)
    return rows


def write_results(rows: list[tuple[Target, dict[str, float], bool]], windows: list[Window], text: str) -> None:
    names = [window.name for window in windows]
    lines = [f"# How long the boards' queries take\n\n{text}\n"]
    lines.append(f"| board | panel | | asks | {' | '.join(names)} | |\n|---|---|---|---|{'--:|' * len(names)}---|\n")
    for target, taken, found in rows:
        aim = AIM_LOKI if target.of_loki else AIM_PROMETHEUS
        over = [name for name in names[:-1] if taken[name] > aim]
        over += [names[-1]] if taken[names[-1]] > AIM_DAY else []
        remarks = [f"over its aim: {', '.join(over)}"] if over else []
        remarks += [] if found else ["no data here"]
        cells = " | ".join(
            f"{taken[name]:.2f}" if taken[name] < MOST_SECONDS else f"> {MOST_SECONDS}" for name in names
        )
        kind = "Loki" if target.of_loki else "Prometheus"
        title = target.panel["title"]
        lines.append(
            f"| {target.board} | {title} | {target.query['refId']} | {kind} | {cells} | {'; '.join(remarks)} |\n"
        )
    RESULTS.write_text("".join(lines), encoding="utf-8")


def main() -> int:
    """Fill both, measure, write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.dashboards", description=__doc__)
    parser.add_argument("--quiet", type=float, default=QUIET, help="records a second")
    parser.add_argument("--busy", type=float, default=BUSY, help="records a second in the busy hour")
    arguments = parser.parse_args()
    now = int(time.time()) // 60 * 60
    busy = now - BUSY_HOURS_AGO * HOUR
    windows = [
        Window("last hour", now - HOUR, now, 60),
        Window("busy hour", busy, busy + HOUR, 60),
        Window("24 h", now - DAY, now, 120),
    ]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "loki").mkdir()
        (folder / "prometheus").mkdir()
        series = write_blocks(folder / "prometheus", now)
        prometheus = stack.enter_context(run_prometheus(folder / "prometheus"))
        loki = LokiServer(find_binary("loki"), folder / "loki")
        stack.callback(loki.kill)
        began = time.monotonic()
        records = fill_loki(loki, now, arguments.quiet, arguments.busy)
        filled = time.monotonic() - began
        print(f"{records:,} records in {filled:.0f} s, {series} series", flush=True)
        rows = measure(loki.url, prometheus, windows)
    facts = machine_facts()
    text = TEXT.format(
        date=f"{datetime.now(timezone.utc):%Y-%m-%d}",
        cores=facts["cores"],
        processor=facts["processor"],
        records=records,
        quiet=arguments.quiet,
        busy=arguments.busy,
        filled=filled,
        series=series,
    )
    write_results(rows, windows, text)
    print(f"{RESULTS.relative_to(ROOT)}: {len(rows)} queries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
