"""The rules on figures, for Prometheus: what is lost, silent, full, stalled, slow or gone."""

from __future__ import annotations

import re

from tools.dashboards.promql import (
    A_LOSS,
    COLLECTED,
    DELIVERED,
    END_TIME,
    FIRST_HOP,
    LOST,
    REPORTS,
    RESENT,
    TO_COLLECTOR,
    alive,
    select,
)
from tools.dashboards.promql import count as count_on_one_line
from tools.rules.alert import Alert, Group, Times

FIGURES_HEAD = """
Made by python -m tools.rules (make rules): change it there. Tested, each, in tests/rules/.

How far a counter has come within a window is asked for in three ways, for none alone sees everything: by `increase`,
if it was set back to 0 meanwhile; else by how much higher its highest is than what it was, which is exact; else by
its highest: it is new, or was born with its first loss, and may have ended since. A Prometheus that begins with an
empty store sees older losses as new, once.

An application's ledger comes over OTLP (otelog_log_*) or by its own /metrics (otelog_log_records_*): both are asked.
"""

COLLECTOR_DOWN = 'up{job="otelog-collector"} == 0'
WRITES = 'route="otlp_v1_logs"'


def count(counter: str, window: str, indent: int = 2) -> str:
    """How far each series of a counter has come within a window, as the boards count it; on several lines."""
    text = count_on_one_line(counter, window)
    return re.sub(r" (?=(?:or max_over_time|and resets)\()", "\n" + " " * (indent + 2), text)


def make_groups(times: Times) -> list[Group]:
    """Returns the groups of Prometheus."""
    return [
        Group("otelog-applications", [*_losses(times), *_application(times)]),
        Group("otelog-volume", _volume(times)),
        Group("otelog-collector", [*_collector_losses(times), *_collector_queue(times)]),
        Group("otelog-hops", _hops(times)),
        Group("otelog-loki", _loki(times)),
        Group("otelog-targets", _targets()),
    ]


def _named(expression: str, label: str, value: str) -> str:
    return f'label_replace(\n  {expression},\n  "{label}", "{value}", "", ""\n)'


def _losses(times: Times) -> list[Alert]:
    window = times("10m")
    return [
        Alert(
            name="OtelogRecordsLost",
            expr=f"sum by (job, reason) (\n  {count(select(LOST, A_LOSS), window)}\n) > 0",
            severity="critical",
            summary='{{ $labels.job }} has lost {{ printf "%.0f" $value }} log records: {{ $labels.reason }}',
            description="""
                Within the last 10 minutes {{ printf "%.0f" $value }} records of {{ $labels.job }} were lost, reason
                {{ $labels.reason }}. queue_full: records come faster than they are exported; see whether the
                Collector is slow or away, else raise max_queue_size. retry_exhausted, rejected: the Collector did not
                take them; look at its log. too_large: a record alone is over max_queue_bytes, or cannot be cut to
                max_request_bytes. invalid: a callback of the application raised. shutdown_timeout: give
                otelog.shutdown more time. The application's standard error has the same with more words; the board
                shows which instance.
            """,
            dashboard="otelog-ledger",
        ),
        Alert(
            name="OtelogQueuePeak",
            # The Collector goes on showing the last report of an instance that has died.
            expr=(
                "max by (job) (\n"
                "  otelog_log_queue_peak / otel_sdk_processor_log_queue_capacity\n"
                f"    and on (job, instance) {alive(times('5m'))}\n"
                "  or\n"
                "  otelog_log_records_queue_peak_ratio\n"
                ") > 0.8"
            ),
            severity="warning",
            summary="{{ $labels.job }} has had {{ $value | humanizePercentage }} of its queue in use",
            description="""
                The fullest queue of {{ $labels.job }} has held {{ $value | humanizePercentage }} of what it can,
                since the report before. At 100 % records are dropped, or callers wait with when_full=block. If the
                Collector is well, the bursts are larger than the queue: raise max_queue_size.
            """,
            dashboard="otelog-ledger",
            # Shorter than what is told of the losses that came of it, which inhibits it.
            keep="2m",
        ),
        Alert(
            name="OtelogExportFailing",
            expr=(
                "sum by (job) (\n"
                f"  {count(select(RESENT, FIRST_HOP), times('5m'))}\n"
                "  or\n"
                f"  {count(select('otelog_log_(records_)?dropped_total', FIRST_HOP), times('5m'))}\n"
                ") > 0\n"
                "unless\n"
                "sum by (job) (\n"
                f"  {count(select(DELIVERED, TO_COLLECTOR), times('5m'))}\n"
                ") > 0"
            ),
            severity="critical",
            summary=(
                '{{ $labels.job }} delivers nothing: {{ printf "%.0f" $value }} log records were sent again or dropped '
                "in 5 minutes"
            ),
            description="""
                For 5 minutes no record of {{ $labels.job }} has reached the Collector, though it has tried. What
                waits is kept until its queue is full. See whether the Collector runs and takes records, and whether
                address, token and TLS are right: otelog doctor says which.
            """,
            dashboard="otelog-ledger",
            wait="1m",
        ),
    ]


def _application(times: Times) -> list[Alert]:
    hour, before = times("1h"), times("5m")
    return [
        Alert(
            name="OtelogApplicationSilent",
            # Only of those that have reported twice at least within the hour, unless each of their instances has said
            # that it was shut down. The Collector itself has to be there, and after it was restarted they have the
            # time to report again.
            expr=(
                "(\n"
                f"    sum by (job) (increase({REPORTS}[{hour}])) > 0\n"
                "  unless\n"
                "    count by (job) (\n"
                f"        {REPORTS} != {REPORTS} offset {before}\n"
                "      or\n"
                f"        {REPORTS} unless {REPORTS} offset {before}\n"
                "    )\n"
                ")\n"
                "unless\n"
                "  (\n"
                f"      count by (job) (last_over_time({END_TIME}[{hour}]) > 0)\n"
                "    unless\n"
                f"      count by (job) (last_over_time({END_TIME}[{hour}]) == 0)\n"
                "  )\n"
                f"unless on () ({COLLECTOR_DOWN})"
            ),
            severity="warning",
            summary="No instance of {{ $labels.job }} reports any more",
            description="""
                {{ $labels.job }} reported to the Collector within the last hour, and has not for more than 5 minutes,
                and at least one of its instances was not shut down in order. See whether it runs, and whether it
                reaches the Collector; what its queue held when it died is on the board under "Left by the dead".
            """,
            dashboard="otelog-ledger",
            wait="2m",
        )
    ]


def _volume(times: Times) -> list[Alert]:
    window, hour, day = times("10m"), times("1h"), times("1d")
    errors = f'{COLLECTED}{{severity=~"error|fatal"}}'
    now = f"sum by (job) (\n    {count(errors, window)}\n  )"
    # Its mean of ten minutes, in the hour around this time of yesterday; and in the hour before these ten minutes.
    yesterday = f"sum by (job) (increase({errors}[{hour}] offset {times('1410m')})) / 6"
    earlier = f"sum by (job) (increase({errors}[{hour}] offset {window})) / 6"
    came = f"sum by (job) (\n    {count(COLLECTED, window)}\n  )"
    return [
        Alert(
            name="OtelogErrorBurst",
            # With the name that Loki's rules have for a service.
            expr=(
                "label_replace(\n"
                f"(\n  {now} > 100\n)\n"
                f"unless on (job)\n(\n  {now} <= 5 * ({yesterday})\n)\n"
                # Who was not there yesterday is held against himself.
                f"unless on (job)\n(\n  (\n  {now} <= 5 * ({earlier})\n  )\n  unless on (job) ({yesterday})\n)\n"
                ', "service_name", "$2", "job", "(.+/)?(.+)")'
            ),
            severity="warning",
            summary='{{ $labels.job }} has logged {{ printf "%.0f" $value }} errors in 10 minutes',
            description="""
                That is more than 100, and more than five times what it logged in 10 minutes at this time yesterday
                (in its first day: in the hour before). The board of errors shows which exceptions, from where, and
                since when.
            """,
            dashboard="otelog-errors",
        ),
        Alert(
            name="OtelogLogSilence",
            expr=(
                "(\n"
                f"  sum by (job) (increase({COLLECTED}[{hour}] offset {window})) > 100\n"
                ")\n"
                f"unless on (job)\n(\n  {came} > 0\n)\n"
                # It is silent at this time of every day.
                f"unless on (job)\n(\n  sum by (job) (increase({COLLECTED}[{window}] offset {day})) == 0\n)\n"
                f"unless on () ({COLLECTOR_DOWN})"
            ),
            severity="warning",
            summary=(
                '{{ $labels.job }} has logged nothing for 10 minutes, after about {{ printf "%.0f" $value }} records '
                "in the hour before"
            ),
            description="""
                No record of {{ $labels.job }} has come to the Collector for 10 minutes; yesterday at this time it was
                not silent. If it still reports its ledger, it runs and does not log: see whether it has work to do,
                and whether its log level was changed. Else see whether it runs. This ends by itself after an hour.
            """,
            dashboard="otelog-logs",
            wait="1m",
        ),
    ]


def _collector_losses(times: Times) -> list[Alert]:
    window = times("10m")

    def ways(counter: str, label: str, outcomes: tuple[str, ...]) -> str:
        return "\nor\n".join(
            _named(f"sum by ({label}) (\n    {count(counter.format(outcome), window)}\n  ) > 0", "outcome", outcome)
            for outcome in outcomes
        )

    return [
        Alert(
            name="OtelogCollectorRefuses",
            expr=ways("otelcol_receiver_{}_log_records_total", "receiver, transport", ("refused", "failed")),
            severity="warning",
            summary=(
                'The Collector has not taken {{ printf "%.0f" $value }} log records by {{ $labels.transport }}: '
                "{{ $labels.outcome }}"
            ),
            description="""
                The applications keep these and send them again, until their queues are full. Refused: the memory
                limiter, as the Collector is over OTELOG_COLLECTOR_MEMORY_MIB, or a full queue, as an exporter's
                target is away. Failed: an error of the Collector itself. Look at the Collector's queues on the board,
                and at its log.
            """,
            dashboard="otelog-backend",
        ),
        Alert(
            name="OtelogCollectorLoses",
            expr=ways("otelcol_exporter_{}_log_records_total", "exporter", ("send_failed", "enqueue_failed")),
            severity="critical",
            summary=(
                'The Collector could not hand {{ printf "%.0f" $value }} log records to {{ $labels.exporter }}: '
                "{{ $labels.outcome }}"
            ),
            description="""
                send_failed: it has given up on these requests; enqueue_failed: the exporter's queue was full. Loki: a
                request answered 400 for one bad line counts as a whole, though Loki holds the good ones;
                OtelogLokiDiscards says how many it has not. A file: see whether the disk is full. The other exporters
                have the records all the same.
            """,
            dashboard="otelog-backend",
        ),
    ]


def _collector_queue(times: Times) -> list[Alert]:
    # That of traces holds bytes, refuses nobody, and is full at times.
    of_logs = '{data_type!="traces"}'
    size, capacity = f"otelcol_exporter_queue_size{of_logs}", f"otelcol_exporter_queue_capacity{of_logs}"
    return [
        Alert(
            name="OtelogCollectorQueueFills",
            expr=f"max by (exporter) ({size} / {capacity}) > 0.8",
            severity="critical",
            summary="The Collector's queue to {{ $labels.exporter }} is {{ $value | humanizePercentage }} full",
            description="""
                Its target is away or slow. Nothing is lost yet: when the queue is full the Collector refuses, and the
                applications' queues fill next. Bring the target back; OTELOG_COLLECTOR_QUEUE_RECORDS is the queue's
                bound, and it needs room on disk.
            """,
            dashboard="otelog-backend",
            wait="1m",
        ),
        Alert(
            name="OtelogCollectorQueueFullSoon",
            expr=(
                f"max by (exporter) (\n  {size} / {capacity} > 0.05\n"
                f"    and predict_linear({size}[{times('10m')}], 3600) >= {capacity}\n)"
            ),
            severity="warning",
            summary=(
                "The Collector's queue to {{ $labels.exporter }} is {{ $value | humanizePercentage }} full, and is "
                "full within an hour if it goes on"
            ),
            description="""
                It has grown for 10 minutes so fast that it is full within an hour. Nothing is lost yet: then the
                Collector refuses, and the applications' queues fill next. Bring the target back or see why it is
                slow.
            """,
            dashboard="otelog-backend",
            wait="5m",
        ),
        Alert(
            name="OtelogCollectorOutputStalled",
            expr=(
                f"max by (exporter) (min_over_time({size}[{times('5m')}])) > 0\n"
                "unless on (exporter)\n"
                "sum by (exporter) (\n"
                f"  {count('otelcol_exporter_sent_log_records_total', times('5m'))}\n"
                ") > 0"
            ),
            severity="critical",
            summary=(
                '{{ printf "%.0f" $value }} log records wait in the Collector for {{ $labels.exporter }}, and none '
                "was sent in 5 minutes"
            ),
            description="""
                The queue was never empty for 5 minutes, and nothing was sent. The Collector tries again without end
                and counts no failure meanwhile. See whether the target answers; for Loki, its log and /ready.
            """,
            dashboard="otelog-backend",
        ),
    ]


def _hops(times: Times) -> list[Alert]:
    # They stay known for a day.
    def grown(name: str) -> str:
        before = f"{name} offset {times('10m')}"
        return f"{name} - {before} > 0 or ({name} > 0 unless {before})"

    hops = (
        ("job", "otelog:missing_in_collector:records", "collector"),
        ("exporter", "otelog:missing_in_output:records", "output"),
        ("", "otelog:missing_in_loki:records", "loki"),
    )
    return [
        Alert(
            name="OtelogRecordsMissing",
            expr="\nor\n".join(_named(f"sum by ({label}) ({grown(name)})", "hop", hop) for label, name, hop in hops),
            severity="critical",
            summary=(
                '{{ printf "%.0f" $value }} log records are missing behind {{ or $labels.job $labels.exporter "the '
                'Collector" }}, and nobody has counted them as lost: hop {{ $labels.hop }}'
            ),
            description="""
                Within the last 10 minutes the figures of two hops have come apart. collector: delivered by the
                service, and never counted by the Collector. output: taken by the Collector, and neither sent to the
                exporter, nor queued, nor failed. loki: sent to Loki, and neither held nor discarded. otelog audit
                shows all hops beside each other.
            """,
            dashboard="otelog-ledger",
            wait="2m",
        )
    ]


def _loki(times: Times) -> list[Alert]:
    window, short = times("10m"), times("5m")
    requests = "loki_request_duration_seconds_count"
    return [
        Alert(
            name="OtelogLokiDiscards",
            expr=f"sum by (reason) (\n  {count('loki_discarded_samples_total', window)}\n) > 0",
            severity="critical",
            summary='Loki has discarded {{ printf "%.0f" $value }} log lines: {{ $labels.reason }}',
            description="""
                line_too_long: raise max_line_size in loki.yaml, or log less; the lines are in the Collector's files.
                rate_limited and per_stream_rate_limit: the Collector sends them again, raise the rates in loki.yaml.
                too_far_behind and greater_than_max_sample_age: they came too late for Loki.
            """,
            dashboard="otelog-backend",
        ),
        Alert(
            name="OtelogLokiFails",
            expr=(
                f'sum by (route) (rate({requests}{{status_code=~"5.."}}[{short}]))\n'
                f"/\nsum by (route) (rate({requests}[{short}]))\n> 0.05"
            ),
            severity="critical",
            summary="Loki answers {{ $value | humanizePercentage }} of requests to {{ $labels.route }} with an error",
            description="""
                More than 5 % of them for a minute are answered 5xx. Records are kept by the Collector meanwhile, and
                sent again. Loki's log says why; often its disk is full, or a limit of memory is reached.
            """,
            dashboard="otelog-backend",
            wait="1m",
        ),
        Alert(
            name="OtelogLokiSlow",
            expr=(
                "histogram_quantile(0.95, sum by (le) (\n"
                f"  rate(loki_request_duration_seconds_bucket{{{WRITES}}}[{short}])\n)) > 5"
            ),
            severity="warning",
            summary='Loki takes {{ printf "%.1f" $value }} s for one in twenty requests of the Collector',
            description="""
                95 % of the requests that write took longer than 5 s at most. The Collector's queue grows when this
                goes on. See Loki's memory, its disk, and who sends so much.
            """,
            dashboard="otelog-backend",
            wait="5m",
        ),
        Alert(
            name="OtelogDiskFills",
            expr="max by (instance) (loki_ingester_wal_disk_usage_percent) > 0.8",
            severity="critical",
            summary="The disk of Loki is {{ $value | humanizePercentage }} full",
            description="""
                At 90 % Loki stops to take records, and they wait in the Collector. Make room, or lower
                OTELOG_LOKI_RETENTION. It is Loki's own disk: the Collector and Prometheus export nothing about
                theirs; where they are on another one, have node_exporter watch it.
            """,
            dashboard="otelog-backend",
            wait="1m",
        ),
    ]


def _targets() -> list[Alert]:
    return [
        Alert(
            name="OtelogTargetDown",
            # Not Alertmanager itself: it could tell nobody, and with docker compose it runs on demand only.
            expr='up{job!~"alertmanager|jaeger"} == 0',
            severity="critical",
            summary="{{ $labels.job }} at {{ $labels.instance }} does not answer Prometheus",
            description="""
                Nothing that it knows is seen while it is down: other alerts may be silent for want of data. See
                whether it runs, and whether its address in targets/ is right.
            """,
            dashboard="otelog-backend",
            wait="1m",
        ),
        Alert(
            name="OtelogTargetMissing",
            # A target that was never there, or has lost its name, is not down.
            expr='absent(up{job="otelog-collector"}) or absent(up{job="loki"})',
            severity="critical",
            summary="Prometheus has no target {{ $labels.job }}",
            description="""
                Without it the other alerts are blind. See targets/ beside prometheus.yaml, and the page "Target
                health" of Prometheus.
            """,
            dashboard="otelog-backend",
            wait="1m",
        ),
        Alert(
            name="OtelogTracesAway",
            expr='up{job="jaeger"} == 0',
            severity="warning",
            summary="Jaeger at {{ $labels.instance }} does not answer Prometheus",
            description="""
                Traces are dropped while it is away, and a record's trace cannot be opened. Logs do not notice. See
                whether it runs, and its log.
            """,
            dashboard="otelog-backend",
            wait="1m",
        ),
        Alert(
            name="OtelogWatchdog",
            expr="vector(1)",
            severity="none",
            summary="Alerts are evaluated and sent",
            description="""
                It always fires, and no receiver is told of it. Where somebody watches that it does not stop (a dead
                man's switch), route it there in alertmanager.yaml: then a Prometheus or Alertmanager that has died is
                noticed.
            """,
            dashboard="otelog-backend",
        ),
    ]
