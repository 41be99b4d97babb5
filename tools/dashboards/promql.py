"""PromQL of the dashboards: what a counter has counted exactly, who is alive, and which metrics there are.

An application's ledger comes by one of two ways: over OTLP through the Collector (``otel_sdk_*``, ``otelog_log_*``),
or by its own /metrics (``otelog_log_records_*``). A selector here names both, so one panel serves both. An application
that uses both ways at once is counted twice.

A variable stands in backquotes, formatted by ``regex``: so a name may have any sign but a backquote.
"""

from __future__ import annotations

CREATED = "otel_sdk_log_created_total|otelog_log_records_created_total"
DELIVERED = "otel_sdk_exporter_log_exported_total|otelog_log_records_exported_total"
LOST = "otelog_log_(records_)?(refused|dropped|removed)_total"
REMOVED = "otelog_log_(records_)?(removed|filtered)_total"
RESENT = "otelog_log_(records_)?resent_total"
TRUNCATED = "otelog_log_(records_)?truncated_total"
OUTCOME_UNKNOWN = "otelog_log_(records_)?outcome_unknown_total"
QUEUE_SIZE = "otel_sdk_processor_log_queue_size|otelog_log_records_queue_size"
QUEUE_CAPACITY = "otel_sdk_processor_log_queue_capacity|otelog_log_records_queue_capacity"
QUEUE_PEAK = "otelog_log_queue_peak|otelog_log_records_queue_peak"
QUEUE_PEAK_SHARE = "otelog_log_records_queue_peak_ratio"
"""By /metrics, of several processes: the fullest of them, whose capacity is not the sum that is told there."""
START_TIME = "otelog_log_start_time_seconds"
WAITING_BY_OTLP = "otel_sdk_processor_log_queue_size|otelog_log_waiting|otel_sdk_exporter_log_inflight"
WAITING_BY_SCRAPE = "otelog_log_records_(queue_size|waiting)"
REPORTS = "otelog_collector_reports_total"
END_TIME = "otelog_log_end_time_seconds"
COLLECTED = "otelog_collector_log_records_total"

MISSING_IN_COLLECTOR = "otelog:missing_in_collector:records"
MISSING_IN_OUTPUT = "otelog:missing_in_output:records"
MISSING_IN_LOKI = "otelog:missing_in_loki:records"
INCOMPARABLE = "otelog:incomparable"
"""Recorded by collector/rules/recording.yaml, which says how they are computed. Absent: it cannot be compared."""

RANGE = "$__range"
STEP = "$__interval"
SECONDS = "($__interval_ms / 1000)"
"""Of a step."""

SERVICE = "job=~`(.+/)?(${service:regex})`"
"""A job is ``namespace/name``, or the name alone."""

INSTANCE = "instance=~`${instance:regex}`"

ERRORS = 'severity=~"error|fatal"'

TO_COLLECTOR = 'error_type="",otel_component_type=~"(.*otlp.*)?",exporter=~"(otlp.*)?"'
"""Of what is exported: what succeeded, and not to files or the console."""

A_LOSS = 'reason!~"filtered|sampled|deduplicated"'
NO_LOSS = 'reason=~"(filtered|sampled|deduplicated)?"'
"""Removed on purpose, by the application or by an exporter's own filter, which gives no reason."""

FIRST_HOP = 'otel_component_type=~"(.*otlp.*|.+_processor)?",exporter=~"(otlp.*)?"'
"""The queue, and what lies between it and the Collector; not files nor the console."""

FIRING = 'ALERTS{alertstate="firing",alertname!~"(?i).*watchdog.*"}'
"""The watchdog fires always: it says that alerts arrive."""

ALIVE_WINDOW = "5m"
"""An instance that has not reported for so long is taken for dead; it reports once a minute by default."""

REPORT_WINDOW = "1m"


def select(names: str, *matchers: str) -> str:
    """A selector of all series that have one of these names, a regular expression."""
    return f"{{{','.join((f'__name__=~{chr(34)}{names}{chr(34)}', *matchers))}}}"


def of_services(names: str, *matchers: str) -> str:
    """The same, of the services chosen."""
    return select(names, SERVICE, *matchers)


def of_instances(names: str, *matchers: str) -> str:
    """The same, of the services and instances chosen."""
    return select(names, SERVICE, INSTANCE, *matchers)


def count(counter: str, window: str) -> str:
    """How far each series of a counter has come within a window, exactly, also one that is born or ends in it.

    `increase` and `rate` are of no use here: they extrapolate, and do not see what a new series begins with, which is
    all that a short program has to tell. Only for a series that was set back within the window (a program restarted
    under the same name) `increase` is still the best.

    Args:
        counter: A selector.
        window: A duration, or a variable of Grafana.
    """
    grown = f"max_over_time({counter}[{window}])"
    return (
        f"(increase({counter}[{window}]) and resets({counter}[{window}]) > 0 "
        f"or {grown} - {counter} offset {window} >= 0 or {grown})"
    )


def a_day_before(expression: str) -> str:
    """What an expression was 24 hours before."""
    return f"last_over_time(({expression})[{REPORT_WINDOW}:{REPORT_WINDOW}] offset 1d)"


def zero_if(expression: str, present: str) -> str:
    """A sum that is 0 where it has nothing to add up, but only if there is somebody who would have told."""
    return f"(sum({expression}) or 0 * count({present}))"


def sum_missing(rule: str, hop: str, *matchers: str) -> str:
    """How many records are missing behind a hop; nothing where that is not known of all.

    A loss that is known of some is shown. A 0 only if nothing of it is incomparable.
    """
    known = f"sum({rule}{{{','.join(matchers)}}})"
    unknown = f"{INCOMPARABLE}{{{','.join((f'hop=~{chr(34)}{hop}{chr(34)}', *matchers))}}}"
    return f"({known} > 0 or ({known} unless on () {unknown}))"


def by_service(expression: str, *labels: str) -> str:
    """Sum by the service's name as Loki has it, and by other labels."""
    return f"sum by ({', '.join(('service', *labels))}) ({name_service(expression)})"


def name_service(expression: str) -> str:
    """Adds the label ``service``, the service's name as Loki has it."""
    return f'label_replace({expression}, "service", "$2", "job", "(.+/)?(.+)")'


def with_host(expression: str) -> str:
    """Adds host and process id to what has the labels job and instance, where the application's resource has them."""
    told = "topk by (job, instance) (1, max by (job, instance, host_name, process_pid) (target_info))"
    joined = f"{expression} * on (job, instance) group_left (host_name, process_pid) {told}"
    return f"({joined} or on (job, instance) {expression})"


def last_change(counter: str) -> str:
    """When, within the time range, each series of a counter last rose: Unix time in milliseconds, to the minute."""
    before = f"{counter} offset {REPORT_WINDOW}"
    # A series that has only just come has risen, too.
    risen = f"timestamp({counter} != {before} or {counter} unless {before})"
    return _to_milliseconds(f"max_over_time({risen}[{RANGE}:{REPORT_WINDOW}])", risen)


def first_seen(metric: str) -> str:
    """When, within the time range, each series was first there: Unix time in milliseconds, to the minute."""
    seen = f"timestamp({metric})"
    return _to_milliseconds(f"min_over_time({seen}[{RANGE}:{REPORT_WINDOW}])", seen)


def _to_milliseconds(within: str, now: str) -> str:
    # A subquery looks at whole minutes: what has only just come is seen by asking for now.
    return f"1000 * ({within} or {now})"


def last_report() -> str:
    """When, within the time range, each instance last reported to the Collector, by job and instance."""
    return f'label_replace({last_change(REPORTS)}, "instance", "$1", "service_instance_id", "(.+)")'


def alive(window: str = ALIVE_WINDOW) -> str:
    """The instances that have reported to the Collector within a window, by job and instance."""
    now, before = REPORTS, f"{REPORTS} offset {window}"
    # A series that has only just come, and one that was set back, have reported, too.
    return f'label_replace({now} != {before} or {now} unless {before}, "instance", "$1", "service_instance_id", "(.+)")'


def waiting(by_otlp: str, by_scrape: str) -> str:
    """Records that wait in living applications.

    The Collector goes on showing the last report of an instance that has died; a target of a scrape just vanishes.
    """
    return f"({by_otlp} and on (job, instance) {alive()} or {by_scrape})"


def left_behind(by_otlp: str) -> str:
    """Records that waited in instances that have not reported since."""
    return f"({by_otlp} unless on (job, instance) {alive()})"
