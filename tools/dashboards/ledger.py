"""The board "Delivery ledger": was anything lost, and at which hop."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builder

from tools.dashboards import logql
from tools.dashboards.board import BACKEND, LEDGER, LOGS, make_board
from tools.dashboards.links import Link, field, to_board
from tools.dashboards.panels import (
    FILLING,
    LOSS,
    MOMENT,
    PER_SECOND,
    SHARE,
    WHOLE,
    AnyPanel,
    Colors,
    Column,
    Query,
    color_severities,
    make_bars,
    make_logs,
    make_series,
    make_stat,
    make_steps,
    make_table,
    mark_limits,
)
from tools.dashboards.promql import (
    A_LOSS,
    COLLECTED,
    CREATED,
    DELIVERED,
    FIRING,
    FIRST_HOP,
    INCOMPARABLE,
    LOST,
    MISSING_IN_COLLECTOR,
    MISSING_IN_LOKI,
    MISSING_IN_OUTPUT,
    NO_LOSS,
    OUTCOME_UNKNOWN,
    QUEUE_CAPACITY,
    QUEUE_PEAK,
    QUEUE_PEAK_SHARE,
    QUEUE_SIZE,
    RANGE,
    REMOVED,
    RESENT,
    SECONDS,
    SERVICE,
    START_TIME,
    STEP,
    TO_COLLECTOR,
    TRUNCATED,
    WAITING_BY_OTLP,
    WAITING_BY_SCRAPE,
    by_service,
    count,
    first_seen,
    last_change,
    last_report,
    left_behind,
    name_service,
    of_instances,
    of_services,
    sum_missing,
    waiting,
    with_host,
    zero_if,
)
from tools.dashboards.variables import make_instances, make_services_of_metrics, make_sources

COUNTED = f"{COLLECTED}{{{SERVICE}}}"
HELD = f"{logql.NAMED} {logql.INSTANCE}"
TO_LOKI = 'exporter=~"otlp_http/loki.*"'
MISSING = f"{MISSING_IN_COLLECTOR}{{{SERVICE}}}"
NOBODY = "nobody reports"
NO_COLLECTOR = "no Collector"
GREY_MEANS = "Grey: not all of it can be compared, as after a restart; the table of reasons says why."


def make_dashboard() -> builder.Dashboard:
    """Returns the dashboard; the same every time."""
    return make_board(
        LEDGER,
        "Every log record is created, delivered, waiting, or lost with a reason. The figures and tables are exact "
        "counts over the time range chosen; what is grey nobody knows. Applications report their counts once a minute: "
        "what is younger is in Loki before it is counted here.",
        [*make_sources(), make_services_of_metrics(), make_instances()],
        [
            ("", [*make_target_stats(), *_at_a_glance(), *_missing()]),
            ("Why", [_losses(), _incomparable(), _instances()]),
            ("Hop by hop", [_steps(), _hop_by_hop()]),
            ("In the applications", _in_the_applications()),
            ("In the Collector", _in_the_collector()),
            ("By service, and in Loki", _in_loki()),
            ("Last errors", [_last_errors()]),
        ],
    )


def make_target_stats() -> list[AnyPanel]:
    """Returns what stands first on a board: whether those who tell the rest are there."""
    return [
        make_stat(
            "Targets down",
            "Of all programs that Prometheus asks, how many do not answer. What they know is missing on all boards. "
            "The board Back end says which.",
            Query("count(up == 0) or 0 * count(up)"),
            LOSS,
            without_data="no target",
            links=[to_board("Which", BACKEND)],
        ),
        make_stat(
            "Alerts firing",
            "Of all rules but the watchdog, which fires always. The board Back end says which.",
            Query(f"count({FIRING}) or 0 * count(up)"),
            LOSS,
            without_data="no target",
            links=[to_board("Which", BACKEND)],
        ),
    ]


def make_lost_stat(selected: str, present: str, *links: Link) -> AnyPanel:
    """Returns how many records were lost, by whatever hop of the applications."""
    return make_stat(
        "Lost",
        "Records that an application could not keep or deliver, by any of its exporters. Must be 0. Grey: no "
        "application reports. The table below the figures has the reasons: queue_full, raise max_queue_size or look "
        "why the Collector is slow; retry_exhausted, the Collector was not reachable; too_large, a record is over "
        "max_queue_bytes (refused) or cannot be cut to max_request_bytes (dropped).",
        Query(zero_if(count(selected, RANGE), present)),
        LOSS,
        without_data=NOBODY,
        links=links,
    )


def _at_a_glance() -> list[AnyPanel]:
    created = of_instances(CREATED)
    return [
        make_stat(
            "Created",
            "Records that the applications have logged in this time, whatever became of them.",
            Query(f"sum({count(created, RANGE)})"),
            Colors(),
            without_data=NOBODY,
        ),
        make_stat(
            "Delivered",
            "Records that the Collector has acknowledged. Less than created: see what is lost, waiting, and removed on "
            "purpose in the table below.",
            Query(f"sum({count(of_instances(DELIVERED, TO_COLLECTOR), RANGE)})"),
            Colors(),
            without_data=NOBODY,
        ),
        make_lost_stat(of_instances(LOST, A_LOSS), created),
        make_stat(
            "Waiting now",
            "Records in the queues of running applications, not lost and not delivered. Grows while the Collector is "
            "slow or away.",
            Query(f"sum({waiting(of_instances(WAITING_BY_OTLP), of_instances(WAITING_BY_SCRAPE))})"),
            Colors(yellow=1000),
            without_data=NOBODY,
        ),
        make_stat(
            "Left by the dead",
            "Records that waited in instances when they last reported, more than 5 minutes ago. If the process was "
            "killed they are lost, and nobody has counted them. One that ends in order reports 0. Grey: no application "
            "reports.",
            Query(zero_if(left_behind(of_instances(WAITING_BY_OTLP)), created)),
            LOSS,
            without_data=NOBODY,
        ),
        make_stat(
            "Fullest queue",
            "The most that any instance's queue has held since its last report, as a share of what it can "
            "hold. At 100 % it refuses records, or waits with when_full=block.",
            Query(f"max({_share_of_peak()})"),
            FILLING,
            without_data=NOBODY,
            unit=SHARE,
        ),
    ]


def _share_of_peak() -> str:
    labels = "job, instance"
    peak = f"max by ({labels}) ({of_instances(QUEUE_PEAK)})"
    told = f"max by ({labels}) ({of_instances(QUEUE_PEAK_SHARE)})"
    return f"({told} or {peak} / max by ({labels}) ({of_instances(QUEUE_CAPACITY)}))"


def _missing() -> list[AnyPanel]:
    return [
        make_stat(
            "Not in Collector",
            "Records that applications delivered, and the Collector never counted, since both could be compared. "
            f"Above 0: look at what stands between them. {GREY_MEANS}",
            Query(sum_missing(MISSING_IN_COLLECTOR, "collector", SERVICE)),
            LOSS,
            without_data="not comparable",
        ),
        make_stat(
            "Not in outputs",
            "Records that the Collector accepted, and that are neither sent to one of its outputs, nor queued, nor "
            f"counted as failed. Of all services. {GREY_MEANS}",
            Query(sum_missing(MISSING_IN_OUTPUT, "output")),
            LOSS,
            without_data="not comparable",
        ),
        make_stat(
            "Not in Loki",
            f"Records that were sent to Loki, and are neither held nor discarded. Of all services. {GREY_MEANS}",
            Query(sum_missing(MISSING_IN_LOKI, "loki")),
            LOSS,
            without_data="not comparable",
        ),
        make_stat(
            "Loki queue now",
            "Records that the Collector keeps on disk until Loki takes them. Above 0 for long: Loki is slow, away, or "
            "refuses. Nothing is lost before this queue is full.",
            Query(f"sum(otelcol_exporter_queue_size{{{TO_LOKI}}})"),
            Colors(yellow=10_000, red=1_600_000),
            without_data=NO_COLLECTOR,
        ),
    ]


def _losses() -> AnyPanel:
    lost = of_instances(LOST, A_LOSS)
    labels = "service, instance, reason"
    records = f"sum by ({labels}) ({name_service(count(lost, RANGE))}) > 0"
    when = f"max by ({labels}) ({name_service(last_change(lost))}) and on ({labels}) ({records})"
    return make_table(
        "Lost, by reason",
        "Which instance has lost how many records, why, and when last. queue_full: records come faster than they are "
        "exported. retry_exhausted, rejected: the Collector did not take them. too_large: a record is over a bound. "
        "The metrics' page of the documents has all reasons. An instance leads to its records.",
        [Query(records, "records"), Query(when, "last seen")],
        [
            Column("service", 110, links=(to_board("Its records", LOGS, service=field("service")),)),
            Column("instance", 130, links=(to_board("Its records", LOGS, instance_id=field("instance")),)),
            Column("reason", 110),
            Column("records", 80, red=True),
            Column("last seen", 110, unit=MOMENT),
        ],
        without_data="nothing is lost",
        sort_by="records",
    )


def _incomparable() -> AnyPanel:
    return make_table(
        "Why something is grey",
        "What cannot be compared now, and why: a restart within the time compared, or somebody who does not report. "
        "It is no loss, and it ends by itself.",
        [Query(f"max by (job, hop, reason) ({INCOMPARABLE})")],
        [Column("job", 120), Column("hop", 100), Column("reason", 160)],
        without_data="everything can be compared, or no rule computes it",
        sort_by="job",
        descending=False,
    ).height(6)


def _instances() -> AnyPanel:
    created = of_instances(CREATED)
    labels = "job, instance"
    told = f"sum by ({labels}) ({count(created, RANGE)})"
    named = "job, instance, host_name, process_pid"
    lost = f"sum by ({labels}) ({count(of_instances(LOST, A_LOSS), RANGE)})"
    begun = f"1000 * max by ({labels}) ({of_instances(START_TIME)})"
    start = f"({begun} or max by ({labels}) ({first_seen(created)})) and on ({labels}) {told}"
    last = f"max by ({labels}) ({last_report()}) and on ({labels}) {told}"

    def shown(expression: str) -> str:
        return f"sum by ({named}) ({with_host(f'({expression})')})"

    return make_table(
        "Instances",
        "Who has reported in this time: host and process id where the application's resource has host.name and "
        "process.pid, when its counts began (or when it was first there within the time range), and when it last "
        "reported to the Collector; one that Prometheus asks by itself has no last report.",
        [
            Query(shown(told), "created"),
            Query(shown(f"{lost} or 0 * {told}"), "lost"),
            Query(shown(start), "start"),
            Query(shown(last), "last report"),
        ],
        [
            Column("job", 110),
            Column("host", 90, label="host_name"),
            Column("pid", 70, label="process_pid"),
            Column("instance", 130, links=(to_board("Its records", LOGS, instance_id=field("instance")),)),
            Column("created", 80),
            Column("lost", 70, red=True),
            Column("start", 110, unit=MOMENT),
            Column("last report", 110, unit=MOMENT),
        ],
        without_data=NOBODY,
        sort_by="created",
    )


def _steps() -> AnyPanel:
    return make_steps(
        "Created to held",
        "What is left of the records at each step. Created, exported, accepted and held are of the services chosen; "
        "sent are all, and file/errors and file/ai get a part only. Held is by the records' own time.",
        [
            Query(f"sum({count(of_services(CREATED), RANGE)})", "created"),
            Query(f"sum({count(of_services(DELIVERED, TO_COLLECTOR), RANGE)})", "exported"),
            Query(f"sum({count(COUNTED, RANGE)})", "accepted by the Collector"),
            Query(
                f"sum by (exporter) ({count('otelcol_exporter_sent_log_records_total', RANGE)})", "sent to {{exporter}}"
            ),
            Query(f"sum(count_over_time({logql.NAMED} {logql.RANGE}))", "held by Loki", loki=True),
        ],
    )


def _hop_by_hop() -> AnyPanel:
    named = "| label_format service=service_name"
    queued = waiting(of_services(WAITING_BY_OTLP, FIRST_HOP), of_services(WAITING_BY_SCRAPE, FIRST_HOP))
    return make_table(
        "By service",
        "All instances of a service together, whatever is chosen above. Created = lost + removed + waiting + "
        "delivered; what only files or the console have lost is not in it. Counted, by the Collector, and held, by "
        "Loki, are counted at other times, and so may differ from delivered by what came in the last minute: only "
        "missing, which compares what can be compared, says that records are gone. Empty: it cannot be compared.",
        [
            Query(by_service(count(of_services(CREATED), RANGE)), "created"),
            Query(by_service(count(of_services(LOST, A_LOSS, FIRST_HOP), RANGE)), "lost"),
            Query(by_service(count(of_services(REMOVED, NO_LOSS, FIRST_HOP), RANGE)), "removed"),
            Query(by_service(queued), "waiting"),
            Query(by_service(count(of_services(DELIVERED, TO_COLLECTOR), RANGE)), "delivered"),
            Query(by_service(count(COUNTED, RANGE)), "counted"),
            Query(by_service(MISSING), "missing"),
            Query(f"sum by (service) (count_over_time({logql.NAMED} {named} {logql.RANGE}))", "held", loki=True),
        ],
        [
            Column("service", 110, links=(to_board("Its records", LOGS, service=field("service")),)),
            *(Column(name, 80, red=name == "lost") for name in ("created", "lost", "removed", "waiting")),
            Column("delivered", 90),
            Column("counted", 80),
            Column("missing", 110, red=True, unknown="not comparable"),
            Column("held", 80),
        ],
        without_data=NOBODY,
        sort_by="lost",
    )


def _in_the_applications() -> list[AnyPanel]:
    size, capacity = of_instances(QUEUE_SIZE), of_instances(QUEUE_CAPACITY)
    delivered = count(of_instances(DELIVERED, TO_COLLECTOR), STEP)
    labels = "job, instance"
    share = f"(sum by ({labels}) ({size}) / sum by ({labels}) ({capacity}))"
    who = "{{job}} {{host_name}} {{process_pid}} {{instance}}"
    return [
        make_series(
            "Created and delivered",
            "Records a second, by service. The lines should lie on each other; each point is what was counted in its "
            "interval, exactly.",
            PER_SECOND,
            [
                Query(f"{by_service(count(of_instances(CREATED), STEP))} / {SECONDS}", "{{service}} created"),
                Query(f"{by_service(delivered)} / {SECONDS}", "{{service}} delivered"),
            ],
            without_data=NOBODY,
        ),
        make_bars(
            "Lost over time",
            "Records lost in each interval. Refused, before the queue: queue_full, too_large (over max_queue_bytes), "
            "already_shutdown, reentrant. Removed: invalid (a callback raised). Dropped, in export: too_large "
            "(cannot be cut to max_request_bytes), all others.",
            [Query(f"{by_service(count(of_instances(LOST, A_LOSS), STEP), 'reason')} > 0", "{{service}} {{reason}}")],
            without_data="nothing is lost",
        ),
        mark_limits(
            make_series(
                "Queue, share in use",
                "Peak: the most that an instance's queue has held since its last report; an overflow of a moment shows "
                "here only. Now: when it reported. At 100 % it refuses records, or waits with when_full=block. Raise "
                "max_queue_size, or look why the Collector is slow. An instance that died shows its last report.",
                SHARE,
                [
                    Query(with_host(f"({_share_of_peak()})"), f"peak {who}"),
                    Query(with_host(share), f"now {who}"),
                ],
                without_data=NOBODY,
            ),
            FILLING,
        ),
        make_series(
            "Queue, records",
            "Records in each instance's queue when it reported, the most since its last report, and how many it can "
            "hold.",
            WHOLE,
            [
                Query(f"max by ({labels}) ({of_instances(QUEUE_PEAK)})", "{{job}} {{instance}} peak"),
                Query(f"sum by ({labels}) ({size})", "{{job}} {{instance}} size"),
                Query(f"sum by ({labels}) ({capacity})", "{{job}} {{instance}} capacity"),
            ],
            without_data=NOBODY,
        ),
        make_bars(
            "Resent, outcome unknown",
            "Resent: records in requests that were sent again. They may have arrived twice; Loki keeps equal lines of "
            "one nanosecond once. Outcome unknown: records in requests that timed out or were cut, the Collector may "
            "have them or not.",
            [
                Query(f"{by_service(count(of_instances(RESENT), STEP))} > 0", "{{service}} resent"),
                Query(f"{by_service(count(of_instances(OUTCOME_UNKNOWN), STEP))} > 0", "{{service}} outcome unknown"),
            ],
            without_data="every request was answered at once",
        ),
        make_bars(
            "Cut to fit",
            "Records that were too large for a request and are delivered cut: their attribute otelog.truncated names "
            "what of them. Raise max_request_bytes, or log less in one record.",
            [Query(f"{by_service(count(of_instances(TRUNCATED), STEP))} > 0", "{{service}}")],
            without_data="nothing was cut",
        ),
    ]


def _in_the_collector() -> list[AnyPanel]:
    return [*make_collector_flow(), *make_collector_queues()]


def make_collector_flow() -> list[AnyPanel]:
    """Returns what the Collector takes, sends, and does not."""
    receiver, exporter = "otelcol_receiver", "otelcol_exporter"

    def counted(name: str, label: str) -> str:
        return f"sum by ({label}) ({count(f'{name}_log_records_total', STEP)})"

    return [
        make_series(
            "Taken and sent",
            "Records a second that the Collector takes, and sends by each exporter. file/errors and file/ai get a part "
            "of them only.",
            PER_SECOND,
            [
                Query(f"{counted(f'{receiver}_accepted', 'transport')} / {SECONDS}", "accepted by {{transport}}"),
                Query(f"{counted(f'{exporter}_sent', 'exporter')} / {SECONDS}", "sent to {{exporter}}"),
            ],
            without_data=NO_COLLECTOR,
        ),
        make_bars(
            "Refused and failed",
            "Records in each interval. Refused: the memory limiter turned them away, and the applications send them "
            "again. Send failed: an exporter gave up; a 400 of Loki counts the whole request, though Loki holds "
            "the good lines of it. Enqueue failed: the queue was full, these are lost to that exporter. After a "
            "restart of the Collector within an interval it is an estimate.",
            [
                Query(f"{counted(f'{receiver}_refused', 'transport')} > 0", "refused by {{transport}}"),
                Query(f"{counted(f'{receiver}_failed', 'transport')} > 0", "failed by {{transport}}"),
                Query(f"{counted(f'{exporter}_send_failed', 'exporter')} > 0", "send failed to {{exporter}}"),
                Query(f"{counted(f'{exporter}_enqueue_failed', 'exporter')} > 0", "enqueue failed to {{exporter}}"),
            ],
            without_data="nothing was refused, nothing failed",
        ),
    ]


def make_collector_queues() -> list[AnyPanel]:
    """Returns how full the Collector's queues are."""
    # That of traces is counted in bytes, and when it is full it refuses nobody.
    size, capacity = (f'otelcol_exporter_queue_{name}{{data_type="logs"}}' for name in ("size", "capacity"))
    return [
        mark_limits(
            make_series(
                "Output queue, share",
                "Share of an exporter's queue on disk in use. When it is full the Collector refuses what comes, and "
                "the applications' queues fill next. While Loki is away send_failed stays 0: this is where it shows.",
                SHARE,
                [Query(f"max by (exporter) ({size} / {capacity})", "{{exporter}}")],
                without_data=NO_COLLECTOR,
            ),
            FILLING,
        ),
        make_series(
            "Output queue, records",
            "Records that wait in the Collector for an exporter, on disk.",
            WHOLE,
            [Query(f"max by (exporter) ({size})", "{{exporter}}")],
            without_data=NO_COLLECTOR,
        ),
    ]


def make_severities(title: str, window: str = STEP) -> AnyPanel:
    """Returns the Collector's counts by service and severity."""
    return color_severities(
        make_bars(
            title,
            "Records in each interval that the Collector has taken, from all senders, also those that are not otelog. "
            "Of the services chosen; nothing else that is chosen above changes it.",
            [Query(f"{by_service(count(COUNTED, window), 'severity')} > 0", "{{service}} {{severity}}")],
            without_data="the Collector has had no record",
        )
    )


def make_discards() -> AnyPanel:
    """Returns what Loki has refused."""
    discarded = count("loki_discarded_samples_total", STEP)
    return make_bars(
        "Discarded by Loki",
        "Lines that Loki has refused, by reason. line_too_long: raise max_line_size in loki.yaml or log less; they are "
        "in the Collector's files all the same. rate_limited: the Collector tries again. greater_than_max_sample_age "
        "or too_far_behind: the records are too old for Loki.",
        [Query(f"sum by (reason) ({discarded}) > 0", "{{reason}}")],
        without_data="nothing was discarded",
    )


def _in_loki() -> list[AnyPanel]:
    return [
        make_severities("Counted, by severity").span(8),
        make_bars(
            "Held by Loki",
            "Records in each interval by their own time, as Loki finds them now.",
            [Query(f"sum by (service_name) (count_over_time({HELD} {logql.STEP}))", "{{service_name}}", loki=True)],
            without_data="Loki holds none of this time",
        ).span(8),
        make_discards().span(8),
    ]


def _last_errors() -> AnyPanel:
    shown = "{{if .trace_id}}{{.trace_id}} {{end}}{{.service_name}} {{__line__}}"
    return make_logs(
        "Last errors",
        "Records of severity ERROR and above: trace id, service, message. Open one for all its attributes.",
        Query(f"{HELD} {logql.ERRORS} | line_format `{shown}`", loki=True),
        without_data="no record of severity ERROR or above",
    )
