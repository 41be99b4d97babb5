"""The board "Back end": whether Collector, Loki and Prometheus are well."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builder

from tools.dashboards.board import BACKEND, make_board
from tools.dashboards.ledger import make_collector_flow, make_collector_queues, make_discards, make_target_stats
from tools.dashboards.panels import (
    BYTES,
    LOSS,
    PER_SECOND,
    SECONDS,
    SHARE,
    WHOLE,
    AnyPanel,
    Colors,
    Column,
    Query,
    make_series,
    make_stat,
    make_table,
)
from tools.dashboards.promql import FIRING, RANGE, count
from tools.dashboards.variables import make_sources

RATE = "$__rate_interval"
NO_COLLECTOR, NO_LOKI, NO_PROMETHEUS = "no Collector", "no Loki", "no Prometheus"
COLLECTOR = 'job="otelog-collector"'
"""Jaeger is made of the same parts."""
LOKI_ROUTES = 'route=~"otlp_v1_logs|loki_api_v1_(query|query_range|labels?|label_name_values|series)"'


def make_dashboard() -> builder.Dashboard:
    """Returns the dashboard; the same every time."""
    return make_board(
        BACKEND,
        "Whether the programs behind the applications are well: who does not answer, which alerts fire, and how full "
        "and fast Collector, Loki and Prometheus are.",
        make_sources(loki=False),
        [
            ("", [*make_target_stats(), *_at_a_glance(), _targets(), _alerts()]),
            ("Collector", [*make_collector_flow(), *make_collector_queues(), *_collector()]),
            ("Loki", _loki()),
            ("Prometheus", _prometheus()),
        ],
        refresh="30s",
    )


def _at_a_glance() -> list[AnyPanel]:
    return [
        make_stat(
            "Send failed",
            "Records in requests that the Collector has given up, to whichever output. A 400 of Loki counts the whole "
            "request, though Loki holds the good lines of it.",
            Query(
                f"sum({count('otelcol_exporter_send_failed_log_records_total', RANGE)}) "
                f"or 0 * count(otelcol_process_uptime_seconds_total{{{COLLECTOR}}})"
            ),
            LOSS,
            without_data=NO_COLLECTOR,
        ),
        make_stat(
            "Discarded",
            "Lines that Loki has refused, for whichever reason; the chart below says why.",
            Query(f"sum({count('loki_discarded_samples_total', RANGE)}) or 0 * count(loki_ingester_memory_streams)"),
            LOSS,
            without_data=NO_LOKI,
        ),
        make_stat(
            "Streams",
            "Streams that Loki has open, one for each service, namespace and environment. A few for each service is "
            "well; it refuses new ones above 5,000.",
            Query("sum(loki_ingester_memory_streams)"),
            Colors(yellow=1000, red=4000),
            without_data=NO_LOKI,
        ),
        make_stat(
            "Rules that fail",
            "Rules that Prometheus could not evaluate in this time: alerts that cannot fire.",
            Query(f"sum({count('prometheus_rule_evaluation_failures_total', RANGE)})"),
            LOSS,
            without_data=NO_PROMETHEUS,
        ),
    ]


def _targets() -> AnyPanel:
    return make_table(
        "Targets",
        "Whom Prometheus asks: whether it answered (1) or not (0), and how long the last answer took.",
        [Query("up", "answers"), Query("scrape_duration_seconds", "took")],
        [
            Column("job", 120),
            Column("instance", 130),
            Column("answers", 80),
            Column("took", 70, unit=SECONDS),
        ],
        without_data="Prometheus has no target",
        sort_by="answers",
        descending=False,
    ).span(12)


def _alerts() -> AnyPanel:
    labels = "alertname, severity, job, exporter, reason"
    return make_table(
        "Alerts",
        "Which alerts fire now, the watchdog left out. The text of each has its figure and leads to its page.",
        [Query(f"count by ({labels}) ({FIRING})", "series")],
        [
            Column("alert", 150, label="alertname"),
            Column("severity", 70),
            Column("job", 110),
            Column("exporter", 90),
            Column("reason", 100),
            Column("series", 60),
        ],
        without_data="no alert fires",
        sort_by="severity",
        descending=False,
    ).span(12)


def _collector() -> list[AnyPanel]:
    return [
        make_series(
            "Collector, memory",
            "What the process holds, and what of it is its heap. Above OTELOG_COLLECTOR_MEMORY_MIB it refuses records.",
            BYTES,
            [
                Query(f"otelcol_process_memory_rss_bytes{{{COLLECTOR}}}", "process {{instance}}"),
                Query(f"otelcol_process_runtime_heap_alloc_bytes{{{COLLECTOR}}}", "heap {{instance}}"),
            ],
            without_data=NO_COLLECTOR,
        ),
        make_series(
            "Collector, requests under way",
            "Requests that the Collector has sent and that are not answered yet, by exporter.",
            WHOLE,
            [Query("sum by (exporter) (otelcol_exporter_in_flight_requests)", "{{exporter}}")],
            without_data=NO_COLLECTOR,
        ),
    ]


def _loki() -> list[AnyPanel]:
    buckets = f"sum by (le, route) (rate(loki_request_duration_seconds_bucket{{{LOKI_ROUTES}}}[{RATE}]))"
    return [
        make_discards(),
        make_series(
            "Loki, lines received",
            "Lines a second that have come to Loki, those included that it then discards.",
            PER_SECOND,
            [Query(f"sum(rate(loki_distributor_lines_received_total[{RATE}]))", "lines")],
            without_data=NO_LOKI,
        ),
        make_series(
            "Loki, streams and chunks",
            "Streams that are open, and chunks that are in memory, not written yet.",
            WHOLE,
            [
                Query("sum(loki_ingester_memory_streams)", "streams"),
                Query("sum(loki_ingester_memory_chunks)", "chunks"),
            ],
            without_data=NO_LOKI,
        ),
        make_series(
            "Loki, 95 % are faster than",
            "Of a hundred requests, 95 took no longer than this, by what was asked: otlp_v1_logs are records coming "
            "in, the others are queries.",
            SECONDS,
            [Query(f"histogram_quantile(0.95, {buckets})", "{{route}}")],
            without_data="no request",
        ),
        make_series(
            "Loki, disk of the write-ahead log",
            "How full the disk is that the write-ahead log is on. Without room Loki goes on without it, and a crash "
            "loses what is in memory.",
            SHARE,
            [Query("max by (instance) (loki_ingester_wal_disk_usage_percent)", "{{instance}}")],
            without_data=NO_LOKI,
        ),
        make_series(
            "Loki, write-ahead log",
            "Bytes a second that are written to it, and records that could not be as the disk was full.",
            BYTES,
            [
                Query(f"sum(rate(loki_ingester_wal_logged_bytes_total[{RATE}]))", "bytes a second"),
                Query(f"sum(increase(loki_ingester_wal_disk_full_failures_total[{RATE}]))", "failures, disk full"),
            ],
            without_data=NO_LOKI,
        ),
        make_series(
            "Loki, memory",
            "What the process holds, with what is in memory and not written yet.",
            BYTES,
            [Query('process_resident_memory_bytes{job="loki"}', "{{instance}}")],
            without_data=NO_LOKI,
        ),
    ]


def _prometheus() -> list[AnyPanel]:
    return [
        make_series(
            "Prometheus, series",
            "Series in memory. Each instance of an application has some 40; they are kept for two hours after its end.",
            WHOLE,
            [Query("sum(prometheus_tsdb_head_series)", "series")],
            without_data=NO_PROMETHEUS,
        ),
        make_series(
            "Prometheus, memory",
            "What the process holds, in bytes; it grows with the series.",
            BYTES,
            [Query('process_resident_memory_bytes{job="prometheus"}', "{{instance}}")],
            without_data=NO_PROMETHEUS,
        ),
    ]
