"""The rules of Grafana's dashboard linter, written anew: no violation without a reason. And our own."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.dashboards.grafana import ALL, BOARDS, Target, panels_of, targets, variables_of

TARGETS = {target.name: target for target in targets()}
PANELS = {f"{uid}: {panel['title']}": panel for uid, board in BOARDS.items() for panel in panels_of(board)}
OF_BOARD = pytest.mark.parametrize("uid", BOARDS)

NO_JOB = (
    "template-job-rule, target-job-rule: the variable is called service, and is the service's name without its "
    "namespace, as Loki has it: so one choice holds for both data sources"
)
NO_INSTANCE = (
    "template-instance-rule, target-instance-rule: only the ledger is of instances; elsewhere a sum over all of "
    "them is asked for, and in Loki an instance is no label"
)
ANY_INSTANCE = "its text for All is .* and not .+: records of programs that are not otelog have no instance"
NO_RATE = (
    "target-counter-agg-rule: rate and increase extrapolate, and do not see what a new series begins with; losses are "
    "counted exactly, see tools/dashboards/promql.py"
)
OVER_RANGE = "target-logql-auto-rule: a table or a figure is of the whole time range, so it is counted over $__range"
REASONS = (NO_JOB, NO_INSTANCE, ANY_INSTANCE, NO_RATE, OVER_RANGE)

UNITS = {"locale", "none", "short", "percentunit", "percent", "s", "bytes", "Bps", "cps", "reqps", "dateTimeFromNow"}
"""Of the linter's, those in use."""

CHARTS = ("stat", "timeseries", "bargauge", "table", "logs")


@OF_BOARD
def test_data_sources_are_variables_with_the_linters_names(uid: str) -> None:
    sources = [one for one in variables_of(BOARDS[uid]).values() if one["type"] == "datasource"]
    assert sources
    for source in sources:
        kind = source["query"]
        assert (source["name"], source["label"]) == (f"{kind}_datasource", f"{kind.title()} data source")


@OF_BOARD
def test_the_services_can_be_chosen(uid: str) -> None:
    """What the linter asks of job, of service; see NO_JOB."""
    service = variables_of(BOARDS[uid]).get("service")
    if service is None:
        # Nothing of it is of one service.
        assert uid == "otelog-backend"
        return
    assert service["type"] == "query"
    assert service["multi"] and service["includeAll"]
    assert service["allValue"] == ".+"


def test_the_instances_can_be_chosen_on_the_ledger() -> None:
    instance = variables_of(BOARDS["otelog-ledger"])["instance"]
    assert instance["multi"] and instance["includeAll"]
    assert instance["label"] == "Instance"
    assert instance["allValue"] == ".*", ANY_INSTANCE
    assert instance["datasource"]["uid"] == "${prometheus_datasource}"


@OF_BOARD
def test_query_variables_ask_again_when_the_time_changes(uid: str) -> None:
    for variable in variables_of(BOARDS[uid]).values():
        if variable["type"] == "query":
            assert variable["refresh"] == 2, variable["name"]


@OF_BOARD
def test_query_variables_of_prometheus_use_a_function_that_it_has(uid: str) -> None:
    for variable in variables_of(BOARDS[uid]).values():
        if variable["type"] == "query" and variable["datasource"]["type"] == "prometheus":
            assert re.fullmatch(r"label_values\(\{.+\}, \w+\)", variable["query"]["query"]), variable["name"]


@OF_BOARD
def test_a_board_cannot_be_edited(uid: str) -> None:
    assert BOARDS[uid]["editable"] is False


def test_a_panels_name_is_its_own() -> None:
    assert len(PANELS) == sum(len(panels_of(board)) for board in BOARDS.values())
    assert len(TARGETS) == sum(len(panel["targets"]) for panel in PANELS.values())


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_has_what_the_linter_asks_for(name: str) -> None:
    panel = PANELS[name]
    assert panel["type"] in CHARTS
    assert panel["targets"]
    assert panel["title"]
    assert len(panel["description"]) > 40
    assert panel["description"].endswith(".")
    sources = {"${prometheus_datasource}", "${loki_datasource}"}
    mixed = "-- Mixed --"
    assert panel["datasource"]["uid"] in {*sources, mixed}
    of_targets = {target["datasource"]["uid"] for target in panel["targets"]}
    assert of_targets <= sources
    assert (len(of_targets) == 2) <= (panel["datasource"]["uid"] == mixed)
    if panel["type"] != "logs":
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


@pytest.mark.parametrize("name", TARGETS)
def test_rate_is_asked_over_grafanas_rate_interval(name: str) -> None:
    target = TARGETS[name]
    if target.of_loki:
        # Loki's rate divides by its own window.
        assert all(window == "$__auto" for window in re.findall(r"\brate\(.*?\[([^\]]+)\]", target.expression))
        return
    for window in re.findall(r"\bi?rate\((?:[^\[\]]*)\[([^\]]+)\]", target.expression):
        assert window == "$__rate_interval"


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.of_loki])
def test_logql_has_no_fixed_window_in_a_chart(name: str) -> None:
    target = TARGETS[name]
    windows = set(re.findall(r"\[([^\]]+)\]", target.expression)) - {"$__auto"}
    if target.instant:
        assert windows <= {"$__range"}, OVER_RANGE
    else:
        assert not windows


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if not target.of_loki])
def test_a_counter_is_never_shown_as_it_is(name: str) -> None:
    """See NO_RATE: inside a window, or compared with what it was, or asked only whether and when it is there."""
    expression = re.sub(r"\$\{(\w+):regex\}", r"\1", TARGETS[name].expression)
    expression = re.sub(r'\{__name__=~"[^"]*_total[^"]*"[^{}]*\}', "any_total", expression)
    expression = re.sub(r"\{[^{}]*\}", "", expression)
    for found in re.finditer(r"(\w+\(|)\w+_total\b(.{0,8})", expression):
        assert found[1] in {"count(", "timestamp("} or re.match(r"\[| offset | != | unless ", found[2]), found[0]


# What follows are rules of our own.


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_asks_no_more_often_than_every_15_seconds_and_says_what_no_data_means(name: str) -> None:
    panel = PANELS[name]
    assert panel["interval"] == "1m"
    assert panel["fieldConfig"]["defaults"]["noValue"] not in {"", "0", "No data"}


@OF_BOARD
def test_a_board_refreshes_no_more_often_than_every_30_seconds(uid: str) -> None:
    assert BOARDS[uid]["refresh"] in {"30s", "1m"}


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.of_loki])
def test_a_query_for_records_takes_a_hundred_lines_at_most(name: str) -> None:
    assert TARGETS[name].query["maxLines"] <= 100


@pytest.mark.parametrize("name", PANELS)
def test_a_figure_without_data_is_grey_and_not_green(name: str) -> None:
    panel = PANELS[name]
    if panel["type"] != "stat":
        return
    defaults = panel["fieldConfig"]["defaults"]
    (mapping,) = defaults["mappings"]
    assert mapping["type"] == "special"
    assert mapping["options"]["match"] == "null+nan"
    assert mapping["options"]["result"] == {"color": "#808080", "index": 0, "text": defaults["noValue"]}
    for target in panel["targets"]:
        # It would make a 0 of nobody's word.
        assert "vector(" not in target["expr"]


@pytest.mark.parametrize("name", [name for name, panel in PANELS.items() if panel["type"] == "table"])
def test_a_cell_without_a_value_is_grey_and_not_green(name: str) -> None:
    for override in PANELS[name]["fieldConfig"]["overrides"]:
        properties = {one["id"]: one["value"] for one in override["properties"]}
        if "custom.cellOptions" in properties:
            (mapping,) = properties["mappings"]
            assert mapping["options"]["match"] == "null+nan"
            assert mapping["options"]["result"]["color"] == "#808080"


@pytest.mark.parametrize("name", PANELS)
def test_records_are_whole_numbers_with_separators(name: str) -> None:
    """``short`` makes 14 K of 13,512, and an axis of 3 K, 3 K, 2 K."""
    panel = PANELS[name]
    if panel["type"] == "logs":
        return
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] != "short"
    if defaults["unit"] == "locale":
        assert defaults["decimals"] == 0


@pytest.mark.parametrize("name", TARGETS)
def test_a_variable_in_a_query_is_escaped(name: str) -> None:
    """In backquotes, by ``regex``: the only way that stands regex signs, quotes and backslashes alike."""
    target = TARGETS[name]
    variables = variables_of(BOARDS[target.board])
    for found in re.finditer(r"(.?)\$\{?(\w+)(:\w+)?\}?(.?)", target.expression):
        variable = variables.get(found[2])
        if variable is None:
            assert found[2].startswith("__") or found[2].isdigit(), found[0]
        elif variable["type"] == "custom" and not variable["multi"]:
            # Of a closed set of numbers.
            assert all(re.fullmatch(r"[0-9.]+", one) for one in variable["query"].split(","))
        else:
            assert found[3] == ":regex", found[0]
    outside = re.sub(r"`[^`]*`", "", target.expression)
    assert ":regex}" not in outside


def test_variables_of_one_name_are_of_one_kind_so_that_links_can_carry_them() -> None:
    kinds: dict[str, set[Any]] = {}
    for board in BOARDS.values():
        for name, variable in variables_of(board).items():
            kinds.setdefault(name, set()).add((variable["type"], variable.get("multi"), variable.get("allValue")))
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


@OF_BOARD
def test_every_board_links_to_every_board_with_time_and_variables(uid: str) -> None:
    links = BOARDS[uid]["links"]
    assert [link["url"] for link in links] == [f"/d/{uid}" for uid in ORDER]
    assert all(link["keepTime"] and link["includeVars"] and not link["targetBlank"] for link in links)


ORDER = ("otelog-logs", "otelog-errors", "otelog-requests", "otelog-ai", "otelog-ledger", "otelog-backend")


def links_of(panel: dict[str, Any]) -> list[dict[str, Any]]:
    config = panel["fieldConfig"]
    found = list(config["defaults"].get("links") or [])
    for override in config["overrides"]:
        found += [link for one in override["properties"] if one["id"] == "links" for link in one["value"]]
    return found


@pytest.mark.parametrize("name", PANELS)
def test_a_link_leads_to_a_board_and_variables_that_are_there(name: str) -> None:
    for link in links_of(PANELS[name]):
        if link["url"].startswith("/explore?"):
            assert "otelog-jaeger" in link["url"]
            continue
        variables = r"(?:&(?:var-\w+=[^&]+|\$\{\w+:queryparam\}))*"
        found = re.fullmatch(rf"/d/([\w-]+)\?\$\{{__url_time_range\}}({variables})", link["url"])
        assert found is not None, link["url"]
        known = variables_of(BOARDS[found[1]])
        for variable in re.findall(r"&var-(\w+)=", found[2]):
            assert variable in known, link["url"]
        for variable in re.findall(r"\$\{(\w+):queryparam\}", found[2]):
            assert variable in known and variable in variables_of(BOARDS[name.partition(":")[0]]), link["url"]


@pytest.mark.parametrize("name", PANELS)
def test_a_link_takes_its_values_from_columns_and_labels_that_are_there(name: str) -> None:
    panel = PANELS[name]
    expressions = " ".join(target["expr"] for target in panel["targets"])
    options = [one["options"] for one in panel.get("transformations") or []]
    shown = {new for one in options for new in (one.get("renameByName") or {}).values()}
    shown |= {key for one in options for key in (one.get("indexByName") or {})}
    for link in links_of(panel):
        for kind, value in re.findall(r"\$\{__(data\.fields|field\.labels)\.([^:}]+)", link["url"]):
            if kind == "data.fields":
                assert value in shown, link["url"]
            else:
                assert re.search(rf"by \([^)]*\b{value}\b", expressions), link["url"]


def test_a_place_or_a_choice_that_is_all_is_written_as_the_boards_text() -> None:
    assert ALL in variables_of(BOARDS["otelog-ledger"])["service"]["current"]["value"]


def test_every_reason_is_written() -> None:
    assert all(len(reason) > 40 for reason in REASONS)


def test_a_target_knows_its_board() -> None:
    assert {target.board for target in TARGETS.values() if isinstance(target, Target)} == set(BOARDS)
