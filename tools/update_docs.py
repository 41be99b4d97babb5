"""Writes what is generated: parts of docs/reference and of README.md, and the options in otelog/typing.py.

Run it after a change of an option, a metric, an alert, the stack's variables or the benchmark's results. With --check
it changes nothing, and fails if a file is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from otelog._config.table import OPTIONS, markdown_table

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
RESULTS = ROOT / "benchmarks" / "results"
TYPING = ROOT / "otelog" / "typing.py"

_VARIABLE = re.compile(r"\$\{(?:env:)?(OTELOG_[A-Z_]+)(:[-?+][^}]*|)\}")
_BARE = re.compile(r"^ +(OTELOG_[A-Z_]+):$", re.MULTILINE)
_STACK_FILES = tuple(sorted(path.name for path in (ROOT / "collector").glob("*.yaml") if path.name != "builder.yaml"))

PEERS = {
    "floor": "`logging` to a NullHandler, which delivers nothing (the floor)",
    "otelog-facade": "otelog's facade",
    "otelog-handler": "`logging` through otelog",
    "otelog-processor": "the SDK's Logger and handler, with otelog's processor",
    "sdk-http": "the OpenTelemetry SDK, OTLP/HTTP",
    "sdk-grpc": "the OpenTelemetry SDK, OTLP/gRPC",
    "logfire": "logfire, OTLP/HTTP (a span a record)",
    "queue-listener": "QueueHandler and QueueListener, JSON file",
    "picologging": "picologging with its QueueListener, JSON file (no fields, no place, no ids)",
    "structlog": "structlog, JSON file, in the caller",
    "otelog-structlog": "structlog, by otelog's processor",
    "loguru": "loguru `enqueue=True`, JSON file",
    "loguru-direct": "loguru, JSON file, in the caller",
    "otelog-loguru": "loguru, by `otelog.loguru.install()`",
}
"""The benchmark's peers, as the comparison calls them."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table; a bar inside of a cell is escaped."""
    head = list(head)
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def line_keys() -> str:
    """Returns the keys of a line, with what each holds."""
    from otelog.sinks._line import LINE_KEYS

    meanings = {
        "timestamp": "local time with its offset, to the microsecond",
        "level": "Python's name of the level",
        "logger": "its name",
        "message": "the message, formatted; a body that is no text as JSON",
        "module": "the source file's name, without `.py`",
        "function": "the function's name",
        "line": "the line of the call",
        "thread": "the thread's name",
        "process": "the process's id",
        "trace_id": "32 hexadecimal digits",
        "span_id": "16 hexadecimal digits",
    }
    return table(("key", "what it holds"), ((f"`{key}`", meanings[key]) for key in LINE_KEYS))


def otel_metrics() -> str:
    """Returns the OpenTelemetry metrics, as a pipeline makes them."""
    from opentelemetry.metrics import Histogram, NoOpMeter, NoOpMeterProvider

    from otelog import BatchLogRecordProcessor, OTLPLogExporter

    rows = []

    class Meter(NoOpMeter):
        """Notes what is made."""

        def create_observable_counter(
            self, name: str, *_: object, unit: str = "", description: str = "", **_k: object
        ) -> None:
            rows.append((f"`{name}`", "counter", unit, description))

        def create_observable_up_down_counter(
            self, name: str, *_: object, unit: str = "", description: str = "", **_k: object
        ) -> None:
            rows.append((f"`{name}`", "up-down counter", unit, description))

        def create_observable_gauge(
            self, name: str, *_: object, unit: str = "", description: str = "", **_k: object
        ) -> None:
            rows.append((f"`{name}`", "gauge", unit, description))

        def create_histogram(self, name: str, unit: str = "", description: str = "", **_k: object) -> Histogram:
            rows.append((f"`{name}`", "histogram", unit, description))
            return super().create_histogram(name, unit, description)

    class Provider(NoOpMeterProvider):
        """Gives that meter."""

        def get_meter(self, name: str, *_: object, **_k: object) -> Meter:
            return Meter(name)

    BatchLogRecordProcessor(OTLPLogExporter(), meter_provider=Provider()).shutdown()
    return table(("metric", "kind", "unit", "what it is"), sorted(rows))


def prometheus_metrics() -> str:
    """Returns the metrics of `otelog.prometheus`, as the library shows them."""
    from prometheus_client import CollectorRegistry

    import otelog.prometheus

    registry = CollectorRegistry()
    otelog.prometheus.publish(registry)
    labels = {name: labels for name, (_, labels) in otelog.prometheus._LABELS.items()}
    rows = []
    for metric in sorted(registry.collect(), key=lambda one: one.name):
        short = metric.name.removeprefix("otelog_log_records_")
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        has = labels.get(short, ("exporter",) if short == "waiting" else ())
        rows.append((f"`{name}`", metric.type, ", ".join(f"`{label}`" for label in has), metric.documentation))
    return table(("metric", "kind", "labels", "what it is"), rows)


def alerts() -> str:
    """Returns the stack's alerts: when each fires, and what it says."""
    import yaml

    rows = []
    for file in ("rules/otelog.yaml", "loki-rules/fake/otelog.yaml"):
        rules = yaml.safe_load((ROOT / "collector" / file).read_text(encoding="utf-8"))
        for rule in (rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule):
            notes = rule["annotations"]
            # What is filled in when it fires is three dots here.
            texts = [re.sub(r"\{\{.*?\}\}", "…", notes[key]) for key in ("summary", "description")]
            link = f"[`{rule['alert']}`]({notes['runbook'].replace('docs/', '../')})"
            rows.append((link, rule["labels"]["severity"], *(" ".join(text.split()) for text in texts)))
    return table(("alert", "severity", "it says", "what it means"), rows)


def stack_variables() -> str:
    """Returns the variables of the servers' configuration and of docker compose, with their defaults."""
    found: dict[str, dict[str, None]] = {}
    files = [*(ROOT / "collector" / name for name in _STACK_FILES), ROOT / "docker-compose.yml"]
    places: dict[str, dict[str, None]] = {}
    for file in files:
        text = file.read_text(encoding="utf-8")
        for name, default in [*_VARIABLE.findall(text), *((name, "") for name in _BARE.findall(text))]:
            places.setdefault(name, {})[file.name] = None
            defaults = found.setdefault(name, {})
            if default.startswith(":-"):
                defaults[default[2:]] = None
    rows = (
        (f"`{name}`", ", ".join(f"`{one}`" for one in defaults if one), ", ".join(f"`{file}`" for file in places[name]))
        for name, defaults in sorted(found.items())
    )
    return table(("variable", "default", "where it is read"), rows)


def _medians(load: str) -> dict[str, dict[str, float]]:
    results = json.loads((RESULTS / "latest.json").read_text(encoding="utf-8"))
    return {
        one["peer"]: {name: figure["median"] for name, figure in one["figures"].items()}
        for one in results["summary"]
        if one["load"] == load and one["error"] is None
    }


def _rounded(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def comparison() -> str:
    """Returns the peers of the benchmark beside each other."""
    figures = _medians("burst")
    rows = (
        (
            text,
            _rounded(figures[peer]["cpu_us"]),
            # The median of the rounds' own ratios, as in the benchmark's table.
            f"{figures[peer].get('cpu_ratio', 1):.2f}",
            _rounded(figures[peer]["p50_us"]),
            _rounded(figures[peer]["p999_us"]),
            f"{figures[peer]['delivered_per_s']:,.0f}",
        )
        for peer, text in PEERS.items()
        if peer in figures
    )
    return table(
        ("", "CPU µs a record, delivered", "times the floor", "p50 µs of a call", "p99.9 µs", "records a second"), rows
    )


def figures() -> str:
    """Returns the README's lines of figures."""
    burst = _medians("burst")

    def cpu(peer: str) -> str:
        return f"{burst[peer]['cpu_us']:.1f} µs"

    def rate(peer: str) -> str:
        return f"{burst[peer]['delivered_per_s']:,.0f}"

    date = json.loads((RESULTS / "latest.json").read_text(encoding="utf-8"))["date"]
    return (
        f"- A record made and **delivered** takes {cpu('otelog-facade')} of CPU by otelog's facade, "
        f"{cpu('otelog-handler')} by `logging`; `logging` alone, to a handler that does nothing, takes {cpu('floor')}. "
        f"The OpenTelemetry SDK: "
        f"{cpu('sdk-http')}.\n"
        f"- One call in a thousand makes its caller wait {_rounded(burst['otelog-facade']['p999_us'])} µs; by the SDK "
        f"{_rounded(burst['sdk-http']['p999_us'])} µs.\n"
        f"- {rate('otelog-facade')} records a second arrive from one thread, none lost ({date}, two cores, a real "
        f"Collector); by the SDK {rate('sdk-http')}.\n"
    )


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"figures": figures},
    "docs/reference/options.md": {"options": markdown_table},
    "docs/reference/line.md": {"line-keys": line_keys},
    "docs/reference/metrics.md": {"otel-metrics": otel_metrics, "prometheus-metrics": prometheus_metrics},
    "docs/reference/stack.md": {"alerts": alerts, "stack-variables": stack_variables},
    "docs/explanation/comparison.md": {"comparison": comparison},
}
"""The generated parts of each page, by the name of their marks."""


def fill_in(text: str, name: str, content: str) -> str:
    """Replace what stands between the two marks of this name."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    filled, count = pattern.subn(lambda match: f"{match[1]}{content.strip()}\n{match[2]}", text)
    if count != 1:
        raise SystemExit(f"exactly one pair of <!-- {name} --> marks is needed, not {count}")
    return filled


def render_page(page: str) -> str:
    """Returns a page as it should be."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, make in PARTS[page].items():
        text = fill_in(text, name, make())
    return text


def render_typing() -> str:
    """Return the module with the keywords of `configure` as they should be: its last class, to the end."""
    before, first, _ = TYPING.read_text(encoding="utf-8").partition(f"    {OPTIONS[0].name}: ")
    if not first:
        raise SystemExit(f"{TYPING} has no {OPTIONS[0].name}, where the options begin")
    keywords = (option for option in OPTIONS if not option.environment_only)
    return before + "".join(f"    {option.name}: {option.kind.hint(option)} | None\n" for option in keywords)


def main() -> int:
    """Bring the files up to date, or check that they are."""
    stale = 0
    for path, wanted in [*((ROOT / page, render_page(page)) for page in PARTS), (TYPING, render_typing())]:
        if path.read_text(encoding="utf-8") == wanted:
            continue
        if "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is out of date: run python tools/update_docs.py", file=sys.stderr)
            stale = 1
        else:
            path.write_text(wanted, encoding="utf-8")
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
