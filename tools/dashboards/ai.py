"""The board "AI answers": calls of language models, by the fields gen_ai.* of their records."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builder

from tools.dashboards import logql
from tools.dashboards.board import AI, make_board
from tools.dashboards.panels import (
    SECONDS,
    WHOLE,
    AnyPanel,
    Colors,
    Column,
    Query,
    make_bars,
    make_series,
    make_stat,
    make_table,
)
from tools.dashboards.records import make_followed
from tools.dashboards.variables import make_environments, make_services, make_sources, make_text

MODEL_CHOSEN = "| gen_ai_request_model=~`${model:regex}.*`"
CALLED = logql.records(logql.CALLS, MODEL_CHOSEN)
FAILED = f'{CALLED} | (error_type != "" or severity_number >= 17)'
DURATION = "gen_ai_client_operation_duration"
INPUT, OUTPUT = "gen_ai_usage_input_tokens", "gen_ai_usage_output_tokens"
MODEL = ("gen_ai_request_model", "gen_ai_operation_name")
LEGEND = "{{gen_ai_request_model}} {{gen_ai_operation_name}}"
NO_CALL = "no record with gen_ai.operation.name"
NO_DURATION = "no record with gen_ai.client.operation.duration"
NO_TOKENS = "no record with gen_ai.usage.*"


def make_dashboard() -> builder.Dashboard:
    """Returns the dashboard; the same every time."""
    return make_board(
        AI,
        "Calls of language models: a call is a record with gen_ai.operation.name. Tokens are in gen_ai.usage.*, "
        "seconds in gen_ai.client.operation.duration, a failure has error.type or severity ERROR.",
        [
            *make_sources(),
            make_services(),
            make_environments(),
            make_text("model", "Model", "The beginning of a model's name."),
        ],
        [
            ("", [*_at_a_glance(), _models()]),
            ("Over time", [_calls(), _failures(), _tokens(), _durations()]),
            ("Latest", [_latest()]),
        ],
    )


def _add_up_all(field_name: str) -> str:
    return f"sum({logql.add_up(CALLED, field_name, 'service_name')})"


def _at_a_glance() -> list[AnyPanel]:
    total, failed = f"sum(count_over_time({CALLED} {logql.RANGE}))", f"sum(count_over_time({FAILED} {logql.RANGE}))"
    return [
        make_stat(
            "Calls",
            "Records of calls in this time, of the services, environments and models chosen.",
            Query(total, loki=True),
            Colors(),
            without_data="no call",
        ).span(6),
        make_stat(
            "Failed calls",
            "Calls whose record has error.type, or severity ERROR and above.",
            Query(f"({failed} or 0 * {total})", loki=True),
            Colors(yellow=1),
            without_data="no call",
        ).span(6),
        make_stat(
            "Input tokens",
            "The sum of gen_ai.usage.input_tokens of all calls in this time.",
            Query(_add_up_all(INPUT), loki=True),
            Colors(),
            without_data="no tokens told",
        ).span(6),
        make_stat(
            "Output tokens",
            "The sum of gen_ai.usage.output_tokens of all calls in this time.",
            Query(_add_up_all(OUTPUT), loki=True),
            Colors(),
            without_data="no tokens told",
        ).span(6),
    ]


def _models() -> AnyPanel:
    calls = logql.count(CALLED, *MODEL)
    return make_table(
        "Models and operations",
        "Calls, failures, tokens, and how long they took: half and 95 of a hundred took no longer than p50 and p95.",
        [
            Query(calls, "calls", loki=True),
            Query(f"({logql.count(FAILED, *MODEL)} or 0 * {calls})", "failed", loki=True),
            Query(logql.add_up(CALLED, INPUT, *MODEL), "input tokens", loki=True),
            Query(logql.add_up(CALLED, OUTPUT, *MODEL), "output tokens", loki=True),
            Query(logql.quantile(0.5, CALLED, DURATION, *MODEL), "p50", loki=True),
            Query(logql.quantile(0.95, CALLED, DURATION, *MODEL), "p95", loki=True),
        ],
        [
            Column("model", 140, label="gen_ai_request_model"),
            Column("operation", 100, label="gen_ai_operation_name"),
            Column("calls", 70),
            Column("failed", 70, red=True),
            Column("input tokens", 100),
            Column("output tokens", 110),
            Column("p50", 70, unit=SECONDS),
            Column("p95", 70, unit=SECONDS),
        ],
        without_data=NO_CALL,
        sort_by="calls",
    )


def _calls() -> AnyPanel:
    return make_bars(
        "Calls over time",
        "Calls in each interval, by model and operation.",
        [Query(logql.count(CALLED, *MODEL, window=logql.STEP), LEGEND, loki=True)],
        without_data=NO_CALL,
    )


def _failures() -> AnyPanel:
    return make_bars(
        "Failures",
        "Failed calls in each interval, by model, operation and kind of error.",
        [
            Query(
                logql.count(FAILED, *MODEL, "error_type", window=logql.STEP), f"{LEGEND} {{{{error_type}}}}", loki=True
            )
        ],
        without_data="no call has failed",
    )


def _tokens() -> AnyPanel:
    return make_series(
        "Tokens",
        "Tokens in each interval, by model: what was asked, and what was answered.",
        WHOLE,
        [
            Query(logql.add_up(CALLED, INPUT, MODEL[0], window=logql.STEP), f"{{{{{MODEL[0]}}}}} input", loki=True),
            Query(logql.add_up(CALLED, OUTPUT, MODEL[0], window=logql.STEP), f"{{{{{MODEL[0]}}}}} output", loki=True),
        ],
        without_data=NO_TOKENS,
    )


def _durations() -> AnyPanel:
    return make_series(
        "Durations",
        "In each interval, by model: half and 95 of a hundred calls took no longer than p50 and p95.",
        SECONDS,
        [
            Query(
                logql.quantile(share, CALLED, DURATION, MODEL[0], window=logql.STEP),
                f"{{{{{MODEL[0]}}}}} {name}",
                loki=True,
            )
            for share, name in ((0.5, "p50"), (0.95, "p95"))
        ],
        without_data=NO_DURATION,
    )


def _latest() -> AnyPanel:
    return make_followed(
        "Calls, the latest",
        "The last calls of the models chosen.",
        CALLED,
        Column("model", 110, label="gen_ai_request_model"),
        Column("seconds", 70, label=DURATION),
        Column("error", 90, label="error_type"),
        without_data=NO_CALL,
    )
