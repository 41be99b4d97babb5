"""LogQL of the dashboards: which records, by the variables that the boards have in common.

A variable stands in backquotes, formatted by ``regex``: so a name or a text may have any sign but a backquote.
"""

from __future__ import annotations

RANGE = "[$__range]"
STEP = "[$__auto]"

SERVICES = "{service_name=~`${service:regex}`, deployment_environment_name=~`${environment:regex}`}"
NAMED = "{service_name=~`${service:regex}`}"
"""All of a service, in whatever environment."""

INSTANCE = "| service_instance_id=~`${instance:regex}`"

CHOSEN = (
    "|~ `(?i)${text:regex}` | detected_level=~`${level:regex}` | scope_name=~`${logger:regex}.*` "
    "| trace_id=~`${trace:regex}.*` | request_id=~`${request:regex}.*` | service_instance_id=~`${instance_id:regex}.*`"
)
"""What the fields at the top of the board leave."""

ERRORS = "| severity_number >= 17"
EXCEPTIONS = '| exception_type != ""'
ACCESS = '| http_response_status_code != "" | http_route=~`${route:regex}.*`'
SERVER_ERRORS = '| http_response_status_code =~ "5.."'
CALLS = '| gen_ai_operation_name != ""'


def records(*stages: str) -> str:
    """The records of the services and environments chosen that pass these stages."""
    return " ".join((SERVICES, *stages))


def count(selected: str, *labels: str, window: str = RANGE) -> str:
    """How many records, by labels."""
    return f"sum by ({', '.join(labels)}) (count_over_time({selected} {window}))"


def rate(selected: str, *labels: str, window: str) -> str:
    """How many records a second: Loki counts and divides, it does not extrapolate."""
    return f"sum by ({', '.join(labels)}) (rate({selected} {window}))"


def add_up_bytes(selected: str, *labels: str, window: str = RANGE) -> str:
    """How many bytes their lines have."""
    return f"sum by ({', '.join(labels)}) (bytes_over_time({selected} {window}))"


def add_up(selected: str, field: str, *labels: str, window: str = RANGE) -> str:
    """The sum of a numeric attribute."""
    return f'sum by ({", ".join(labels)}) (sum_over_time({selected} | unwrap {field} | __error__="" {window}))'


def quantile(share: float, selected: str, field: str, *labels: str, window: str = RANGE) -> str:
    """A quantile of a numeric attribute."""
    found = f'quantile_over_time({share}, {selected} | {field} != "" | unwrap {field} | __error__="" {window})'
    return f"{found} by ({', '.join(labels)})"


def top(number: int, expression: str) -> str:
    """The largest of an instant query's series."""
    return f"topk({number}, {expression})"
