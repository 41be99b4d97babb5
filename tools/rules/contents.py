"""The rules on what is in the records, for Loki's ruler: what no counter tells."""

from __future__ import annotations

from tools.rules.alert import Alert, Group, Times

CONTENTS_HEAD = """
Made by python -m tools.rules (make rules): change it there. For Loki's ruler; the folder is Loki's name of the one
tenant. Each rule reads the logs themselves, every minute: so there are two.
"""


def make_contents(times: Times) -> list[Group]:
    """Returns the groups of Loki's ruler."""
    window = times("10m")
    return [
        Group(
            "otelog-contents",
            [
                Alert(
                    name="OtelogReceiptSeen",
                    # Written so that this very text, in the log of a query, is no receipt.
                    expr=(
                        f"sum by (service_name) (count_over_time({{service_name=~`.+`}} "
                        f'|~ `^[{{]"otelog": "receipt", ` [{window}])) > 0'
                    ),
                    severity="warning",
                    summary='{{ printf "%.0f" $value }} processes of {{ $labels.service_name }} have ended with losses',
                    description="""
                        A process that has lost records writes a line {"otelog": "receipt", ...} to standard error
                        when it ends, with the number of each reason. This rule sees it where standard error is
                        collected into this Loki. The line itself says how many records, and why.
                    """,
                    dashboard="otelog-ledger",
                ),
                Alert(
                    name="OtelogExceptionBurst",
                    expr=(
                        "sum by (service_name, exception_type) (count_over_time({service_name=~`.+`} "
                        f"| exception_type != `` [{window}])) > 100"
                    ),
                    severity="warning",
                    summary=(
                        '{{ $labels.service_name }} has logged {{ printf "%.0f" $value }} exceptions '
                        "{{ $labels.exception_type }}"
                    ),
                    description="""
                        More than 100 records of one service within 10 minutes have an exception of this type. The
                        board of errors shows since when, from which function, and the latest stack traces.
                    """,
                    dashboard="otelog-errors",
                ),
            ],
        )
    ]
