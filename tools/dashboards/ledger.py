"""The dashboard "otelog: delivery ledger": was anything lost, and at which hop."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.models import dashboard

from tools.dashboards.panels import (
    FILLING,
    LOSS,
    PER_SECOND,
    PROMETHEUS,
    SHARE,
    AnyPanel,
    Colors,
    Difference,
    Query,
    make_bars,
    make_logs,
    make_series,
    make_stat,
    make_table,
    mark_limits,
)
from tools.dashboards.promql import (
    A_LOSS,
    COLLECTED,
    CREATED,
    DELIVERED,
    FIRST_HOP,
    LOST,
    NO_LOSS,
    OUTCOME_UNKNOWN,
    QUEUE_CAPACITY,
    QUEUE_SIZE,
    REMOVED,
    RESENT,
    SERVICE,
    TO_COLLECTOR,
    TRUNCATED,
    WAITING_BY_OTLP,
    WAITING_BY_SCRAPE,
    by_service,
    count,
    left_behind,
    of_instances,
    of_services,
    waiting,
)

UID = "otelog-ledger"
TITLE = "otelog: delivery ledger"
RANGE = "$__range"
STEP = "$__interval"
SECONDS = "($__interval_ms / 1000)"

COUNTED = f"{COLLECTED}{{{SERVICE}}}"
HELD = '{service_name=~"$service"} | service_instance_id=~"$instance"'
TO_LOKI = 'exporter=~"otlp_http/loki.*"'
ERROR_NUMBER = 17


def make_dashboard() -> builder.Dashboard:
    """Returns the dashboard; the same every time."""
    board = (
        builder.Dashboard(TITLE)
        .uid(UID)
        .description(
            "Every log record is created, delivered, waiting, or lost with a reason. The numbers of the first two rows "
            "are exact counts over the time range chosen. Applications report their counts once a minute: what is "
            "younger is in Loki before it is counted here."
        )
        .tags(["otelog"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .editable()
        .annotation(
            builder.AnnotationQuery()
            .name("Alerts")
            .datasource(PROMETHEUS)
            .enable(True)
            .icon_color("red")
            .expr('ALERTS{alertname=~"Otelog.+",alertstate="firing"}')
            .title_format("{{alertname}}")
            .tag_keys("job,reason,exporter,severity")
        )
    )
    for variable in _make_variables():
        board = board.with_variable(variable)
    number = 0
    for title, panels in (
        ("At a glance", _at_a_glance()),
        ("Hop by hop", [_hop_by_hop()]),
        ("In the applications", _in_the_applications()),
        ("In the Collector", _in_the_collector()),
        ("By service, and in Loki", _in_loki()),
        ("Last errors", [_last_errors()]),
    ):
        number += 1
        board = board.with_row(builder.Row(title).id(number))
        for panel in panels:
            number += 1
            board = board.with_panel(panel.id(number))
    return board


def _make_variables() -> list[builder.DatasourceVariable | builder.QueryVariable]:
    names = f"{CREATED}|{COLLECTED}"
    services = f'label_values({{__name__=~"{names}"}}, job)'
    # The Collector's counts have no instance of an application.
    instances = f'label_values({{__name__=~"{CREATED}",{SERVICE}}}, instance)'
    return [
        builder.DatasourceVariable("prometheus").label("Prometheus").type("prometheus"),
        builder.DatasourceVariable("loki").label("Loki").type("loki"),
        _make_query_variable("service", "Service", services, all_value=".+").regex("/(?:.+\\/)?(.+)/"),
        _make_query_variable("instance", "Instance", instances, all_value=".*"),
    ]


def _make_query_variable(name: str, label: str, query: str, all_value: str) -> builder.QueryVariable:
    return (
        builder.QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .query({"qryType": 1, "query": query, "refId": name})
        .definition(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(all_value)
        .current(dashboard.VariableOption(text=["All"], value=["$__all"]))
    )


def _at_a_glance() -> list[AnyPanel]:
    return [
        make_stat(
            "Created",
            "Records that the applications have logged in this time, whatever became of them.",
            Query(f"sum({count(of_instances(CREATED), RANGE)})"),
            Colors(),
            without_data="nobody reports",
        ),
        make_stat(
            "Delivered",
            "Records that the Collector has acknowledged. Less than created: see what is lost, waiting, and removed on "
            "purpose in the table below.",
            Query(f"sum({count(of_instances(DELIVERED, TO_COLLECTOR), RANGE)})"),
            Colors(),
            without_data="nobody reports",
        ),
        make_stat(
            "Lost",
            "Records that an application could not keep or deliver, by any of its exporters. Must be 0. "
            "The reasons are below: queue_full, "
            "raise max_queue_size or look why the Collector is slow; retry_exhausted, the Collector was not reachable; "
            "too_large, a record is over max_queue_bytes (refused) or cannot be cut to max_request_bytes (dropped).",
            Query(f"sum({count(of_instances(LOST, A_LOSS), RANGE)})"),
            LOSS,
            without_data="nobody reports",
        ),
        make_stat(
            "Waiting now",
            "Records in the queues of running applications, not lost and not delivered. Grows while the Collector is "
            "slow or away.",
            Query(f"sum({waiting(of_instances(WAITING_BY_OTLP), of_instances(WAITING_BY_SCRAPE))})"),
            Colors(yellow=1000),
            without_data="nobody reports",
        ),
        make_stat(
            "Waiting in dead instances",
            "Records that waited in instances when they last reported, more than 5 minutes ago. If the process was "
            "killed they are lost, and nobody has counted them. One that ends in order reports 0.",
            Query(f"sum({left_behind(of_instances(WAITING_BY_OTLP))})"),
            LOSS,
        ),
        make_stat(
            "Loki queue now",
            "Records that the Collector keeps on disk until Loki takes them. Above 0 for long: Loki is slow, away, or "
            "refuses. Nothing is lost before this queue is full.",
            Query(f"sum(otelcol_exporter_queue_size{{{TO_LOKI}}})"),
            Colors(yellow=10_000, red=1_600_000),
            without_data="no Collector",
        ),
    ]


def _hop_by_hop() -> AnyPanel:
    named = '{service_name=~"$service"} | label_format service=service_name'
    queued = waiting(of_services(WAITING_BY_OTLP, FIRST_HOP), of_services(WAITING_BY_SCRAPE, FIRST_HOP))
    return make_table(
        "Hop by hop, by service",
        "All instances of a service together, whatever is chosen above. Created = lost + removed + waiting + "
        "delivered; what only files or the console have lost is not in it. "
        "A difference above 0 says that records are missing behind that hop: before the Collector, look at "
        "its refusals; before Loki, at the Collector's queue and at what Loki discards. Below 0: sent twice (see "
        "resent), sent by a program that does not report, or younger than the last report. Loki's count is by the "
        "records' own time.",
        "service",
        [
            Query(by_service(count(of_services(CREATED), RANGE)), "created"),
            Query(by_service(count(of_services(LOST, A_LOSS, FIRST_HOP), RANGE)), "lost"),
            Query(by_service(count(of_services(REMOVED, NO_LOSS, FIRST_HOP), RANGE)), "removed on purpose"),
            Query(by_service(queued), "waiting now"),
            Query(by_service(count(of_services(DELIVERED, TO_COLLECTOR), RANGE)), "delivered"),
            Query(by_service(count(COUNTED, RANGE)), "counted by the Collector"),
            Query(f"sum by (service) (count_over_time({named} [{RANGE}]))", "held by Loki", loki=True),
        ],
        [
            Difference("missing in the Collector", "delivered", "counted by the Collector"),
            Difference("missing in Loki", "counted by the Collector", "held by Loki"),
        ],
        red=["lost", "missing in the Collector", "missing in Loki"],
    )


def _in_the_applications() -> list[AnyPanel]:
    size, capacity = of_instances(QUEUE_SIZE), of_instances(QUEUE_CAPACITY)
    delivered = count(of_instances(DELIVERED, TO_COLLECTOR), STEP)
    labels = "job, instance"
    share = f"sum by ({labels}) ({size}) / sum by ({labels}) ({capacity})"
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
        ),
        make_bars(
            "Lost, by reason",
            "Records lost in each interval. Refused, before the queue: queue_full, too_large (over max_queue_bytes), "
            "already_shutdown, reentrant. Removed: invalid (a callback raised). Dropped, in export: too_large "
            "(cannot be cut to max_request_bytes), all others.",
            [Query(by_service(count(of_instances(LOST, A_LOSS), STEP), "reason"), "{{service}} {{reason}}")],
        ),
        mark_limits(
            make_series(
                "Queue saturation",
                "Share of its queue that an instance uses. At 100 % it refuses records, or waits with when_full=block. "
                "Raise max_queue_size, or look why the Collector is slow. An instance that died shows its last report.",
                SHARE,
                [Query(share, "{{job}} {{instance}}")],
            ),
            FILLING,
        ),
        make_series(
            "Queue depth",
            "Records in each instance's queue, and how many it can hold.",
            "short",
            [
                Query(f"sum by ({labels}) ({size})", "{{job}} {{instance}} size"),
                Query(f"sum by ({labels}) ({capacity})", "{{job}} {{instance}} capacity"),
            ],
        ),
        make_bars(
            "Resent",
            "Records in requests that were sent again. They may have arrived twice; Loki keeps equal lines of one "
            "nanosecond once.",
            [Query(by_service(count(of_instances(RESENT), STEP)), "{{service}}")],
        ),
        make_bars(
            "Outcome unknown",
            "Records in requests that timed out or were cut: the Collector may have them or not. Explains a duplicate.",
            [Query(by_service(count(of_instances(OUTCOME_UNKNOWN), STEP)), "{{service}}")],
        ),
        make_bars(
            "Cut to fit",
            "Records that were too large for a request and are delivered cut: their attribute otelog.truncated names "
            "what of them. Raise max_request_bytes, or log less in one record.",
            [Query(by_service(count(of_instances(TRUNCATED), STEP)), "{{service}}")],
        ),
    ]


def _in_the_collector() -> list[AnyPanel]:
    receiver, exporter = "otelcol_receiver", "otelcol_exporter"

    def counted(name: str, label: str) -> str:
        return f"sum by ({label}) ({count(f'{name}_log_records_total', STEP)})"

    share = f"max by (exporter) ({exporter}_queue_size / {exporter}_queue_capacity)"
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
        ),
        make_bars(
            "Refused and failed",
            "Records in each interval. Refused: the memory limiter turned them away, and the applications send them "
            "again. Send failed: an exporter gave up; a 400 of Loki counts the whole request, though Loki holds "
            "the good lines of it. Enqueue failed: the queue was full, these are lost to that exporter. After a "
            "restart of the Collector within an interval it is an estimate.",
            [
                Query(counted(f"{receiver}_refused", "transport"), "refused by {{transport}}"),
                Query(counted(f"{receiver}_failed", "transport"), "failed by {{transport}}"),
                Query(counted(f"{exporter}_send_failed", "exporter"), "send failed to {{exporter}}"),
                Query(counted(f"{exporter}_enqueue_failed", "exporter"), "enqueue failed to {{exporter}}"),
            ],
        ),
        mark_limits(
            make_series(
                "Queue saturation",
                "Share of an exporter's queue on disk in use. When it is full the Collector refuses what comes, and "
                "the applications' queues fill next. While Loki is away send_failed stays 0: this is where it shows.",
                SHARE,
                [Query(share, "{{exporter}}")],
            ),
            FILLING,
        ),
        make_series(
            "Queue depth",
            "Records that wait for an exporter.",
            "short",
            [Query(f"max by (exporter) ({exporter}_queue_size)", "{{exporter}}")],
        ),
    ]


def _in_loki() -> list[AnyPanel]:
    panel = make_bars(
        "Counted by the Collector, by service and severity",
        "Records in each interval, from all senders, also those that are not otelog. All instances.",
        [Query(by_service(count(COUNTED, STEP), "severity"), "{{service}} {{severity}}")],
    ).span(8)
    for severity, color in (("fatal", "purple"), ("error", "red"), ("warn", "orange"), ("info", "green")):
        value = {"mode": "fixed", "fixedColor": color}
        panel = panel.override_by_regexp(f"/ {severity}$/", [dashboard.DynamicConfigValue(id_val="color", value=value)])
    discarded = count("loki_discarded_samples_total", STEP)
    return [
        panel,
        make_bars(
            "Held by Loki",
            "Records in each interval by their own time, as Loki finds them now.",
            [Query(f"sum by (service_name) (count_over_time({HELD} [$__auto]))", "{{service_name}}", loki=True)],
        ).span(8),
        make_bars(
            "Discarded by Loki, by reason",
            "Lines that Loki has refused. line_too_long: raise max_line_size in loki.yaml or log less; they are in the "
            "Collector's files all the same. rate_limited: the Collector tries again. greater_than_max_sample_age or "
            "too_far_behind: the records are too old for Loki.",
            [Query(f"sum by (reason) ({discarded})", "{{reason}}")],
        ).span(8),
    ]


def _last_errors() -> AnyPanel:
    shown = "{{if .trace_id}}{{.trace_id}} {{end}}{{.service_name}} {{__line__}}"
    return make_logs(
        "Last errors",
        "Records of severity ERROR and above: trace id, service, message. Open one for all its attributes.",
        Query(f"{HELD} | severity_number >= {ERROR_NUMBER} | line_format `{shown}`", loki=True),
    )
