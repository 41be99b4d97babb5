"""The reconciliation, for losses put in at every hop: that hop is named, and no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelog.audit.books import Application, Books, Collector, Exporter, FileRecords, Loki
from otelog.audit.checks import Hop, Kind, Verdict, find_worst, list_unseen, narrow, reconcile
from tests.sizes import sized

SERVICES = ("pay", "shop", "ns/mail")
SEVERITIES = ("info", "error", "fatal")

counts = st.integers(0, 10_000)


@dataclass(frozen=True)
class Truth:
    """What happens to the records of a run in which every difference has its reason."""

    sent: Mapping[str, Mapping[str, int]]
    ai: Mapping[str, int]
    refused: int
    sampled: int
    dropped: int
    queued: int
    to_loki: int
    resent: int
    retried: int
    rate_limited: int
    too_long: int
    refused_late: int
    failed_of_batch: int


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    # At least two of each kind, so that one can be lost.
    some = st.integers(2, 10_000)
    sent = {service: {severity: draw(some) for severity in SEVERITIES} for service in SERVICES}
    total = sum(sum(by.values()) for by in sent.values())
    # Only what the application has resent may come twice to the Collector.
    resent = draw(st.integers(0, 50))
    to_loki = draw(st.integers(0, 20))
    return Truth(
        sent=sent,
        ai={service: draw(st.integers(2, sum(by.values()))) for service, by in sent.items()},
        refused=draw(counts),
        sampled=draw(counts),
        dropped=draw(counts),
        queued=draw(counts),
        to_loki=to_loki,
        resent=resent,
        retried=draw(counts),
        rate_limited=draw(counts),
        too_long=draw(st.integers(0, 1)),
        refused_late=draw(st.integers(0, 100)),
        failed_of_batch=draw(st.integers(0, total - to_loki)),
    )


def write_books(truth: Truth) -> Books:
    """The books that such a run leaves behind. What came twice, or was refused late, is info of the first service."""
    first = SERVICES[0]
    counted = {service: dict(by) for service, by in truth.sent.items()}
    counted[first]["info"] += truth.resent + truth.refused_late
    accepted = sum(sum(by.values()) for by in truth.sent.values()) + truth.resent
    errors = {service: by["error"] + by["fatal"] for service, by in truth.sent.items()}
    in_app = {service: sum(by.values()) for service, by in counted.items()}
    done = accepted - truth.to_loki
    held = {service: sum(by.values()) for service, by in truth.sent.items()}
    held[first] -= truth.to_loki + truth.too_long
    all_errors, all_ai, all_app = sum(errors.values()), sum(truth.ai.values()), sum(in_app.values())
    return Books(
        applications=tuple(
            Application(
                service=service,
                instance=service,
                created=sum(by.values()) + truth.refused + truth.sampled + truth.dropped + truth.queued,
                refused={"queue_full": truth.refused},
                removed={"sampled": truth.sampled},
                dropped={"retry_exhausted": truth.dropped},
                queued=truth.queued,
                exported=sum(by.values()),
                resent=truth.resent if service == first else 0,
            )
            for service, by in truth.sent.items()
        ),
        collector=Collector(
            accepted=accepted,
            refused=truth.refused_late,
            exporters={
                "otlp_http/loki": Exporter(
                    sent=done - truth.failed_of_batch,
                    failed=truth.failed_of_batch,
                    enqueue_failed=truth.refused_late,
                    queued=truth.to_loki,
                ),
                "file/app": Exporter(sent=all_app),
                "file/errors": Exporter(sent=all_errors),
                "file/ai": Exporter(sent=all_ai),
            },
            passed={"filter/errors": all_errors, "filter/ai": all_ai},
        ),
        counted=counted,
        loki=Loki(
            held=held,
            received=done + truth.retried + truth.rate_limited,
            discarded={"line_too_long": truth.too_long, "rate_limited": truth.rate_limited},
        ),
        files={
            "app": FileRecords(records=in_app, errors=errors, ai=truth.ai),
            "errors": FileRecords(records=errors),
            "ai_responses": FileRecords(records=truth.ai),
        },
    )


def with_exporter(books: Books, name: str, **changes: int) -> Books:
    assert books.collector is not None
    exporter = books.collector.exporters[name]
    changed = replace(exporter, **{field: getattr(exporter, field) + by for field, by in changes.items()})
    return with_collector(books, exporters={**books.collector.exporters, name: changed})


def with_collector(books: Books, **changes: Any) -> Books:
    assert books.collector is not None
    return replace(books, collector=replace(books.collector, **changes))


def with_file(books: Books, stream: str, by: int) -> Books:
    assert books.files is not None
    records = books.files[stream].records
    changed = replace(books.files[stream], records={**records, "shop": records["shop"] + by})
    return replace(books, files={**books.files, stream: changed})


def lose_in_application(books: Books) -> Books:
    assert books.applications is not None
    first, *rest = books.applications
    return replace(books, applications=(replace(first, created=first.created + 1), *rest))


def lose_before_collector(books: Books) -> Books:
    """The application has an answer for more records than the Collector and all behind it ever saw."""
    assert books.applications is not None
    resent = sum(one.resent for one in books.applications)
    more = resent + 1
    first, *rest = books.applications
    return replace(
        books, applications=(replace(first, created=first.created + more, exported=first.exported + more), *rest)
    )


def lose_in_counts(books: Books) -> Books:
    assert books.counted is not None and books.collector is not None
    late = books.collector.refused
    by = books.counted["pay"]
    return replace(books, counted={**books.counted, "pay": {**by, "info": by["info"] - late - 1}})


def lose_before_loki_exporter(books: Books) -> Books:
    assert books.loki is not None and books.loki.received is not None
    assert books.loki.held is not None and books.collector is not None
    exporter = books.collector.exporters["otlp_http/loki"]
    if exporter.queued:
        return with_exporter(books, "otlp_http/loki", queued=-1)
    changed = with_exporter(books, "otlp_http/loki", **{"sent" if exporter.sent else "failed": -1})
    held = {**books.loki.held, "shop": books.loki.held["shop"] - 1}
    return replace(changed, loki=replace(books.loki, received=books.loki.received - 1, held=held))


def lose_before_loki(books: Books) -> Books:
    """Loki never read one of the records that it is said to have taken."""
    assert books.loki is not None and books.collector is not None and books.loki.held is not None
    received = books.collector.exporters["otlp_http/loki"].sent - 1
    discarded = dict.fromkeys(books.loki.discarded, 0)
    held = {**dict.fromkeys(books.loki.held, 0), "pay": received}
    return replace(books, loki=replace(books.loki, received=received, discarded=discarded, held=held))


def lose_in_loki(books: Books) -> Books:
    """One more than can have come twice."""
    assert books.loki is not None and books.loki.held is not None and books.collector is not None
    assert books.loki.received is not None and books.applications is not None
    exporter = books.collector.exporters["otlp_http/loki"]
    retried = books.loki.received - exporter.sent - exporter.failed - books.loki.discarded["rate_limited"]
    twice = retried + sum(one.resent for one in books.applications)
    now_missing = books.loki.received - sum(books.loki.discarded.values()) - sum(books.loki.held.values())
    held = {**books.loki.held, "shop": books.loki.held["shop"] - (twice - now_missing) - 1}
    return replace(books, loki=replace(books.loki, held=held))


LOSSES: dict[str, Callable[[Books], Books]] = {
    "in the application pay": lose_in_application,
    "application -> Collector": lose_before_collector,
    "Collector, receiver -> counts": lose_in_counts,
    "Collector, receiver -> Loki's exporter": lose_before_loki_exporter,
    "in Loki": lose_in_loki,
    "Collector -> file/app": lambda books: with_exporter(with_file(books, "app", -101), "file/app", sent=-101),
    "app.jsonl": lambda books: with_file(books, "app", -1),
    "Collector -> file/errors": lambda books: with_exporter(with_file(books, "errors", -1), "file/errors", sent=-1),
    "errors.jsonl": lambda books: with_file(books, "errors", -1),
    "Collector -> file/ai": lambda books: with_exporter(with_file(books, "ai_responses", -1), "file/ai", sent=-1),
    "ai_responses.jsonl": lambda books: with_file(books, "ai_responses", -1),
}


def unexplained(hops: list[Hop]) -> list[str]:
    return [hop.name for hop in hops if hop.verdict in (Verdict.UNEXPLAINED, Verdict.UNCERTAIN)]


@given(truths())
def test_every_difference_of_a_good_run_is_explained(truth: Truth) -> None:
    hops = reconcile(write_books(truth))
    assert unexplained(hops) == []
    assert (find_worst(hops) is Verdict.ON_THE_WAY) == bool(truth.queued or truth.to_loki)
    lost = 3 * (truth.refused + truth.dropped) + truth.too_long
    assert sum(hop.count(Kind.LOST) for hop in hops) == lost


@pytest.mark.parametrize("name", LOSSES)
@given(truth=truths())
@settings(max_examples=sized(25, full=50))
def test_a_loss_is_named_with_its_hop_and_no_other(name: str, truth: Truth) -> None:
    hops = reconcile(LOSSES[name](write_books(truth)))
    assert unexplained(hops) == [name]
    [hop] = [hop for hop in hops if hop.name == name]
    assert "missing" in hop.describe()
    assert hop.rest >= 1


@given(truths())
def test_what_loki_never_read_is_missing_before_it(truth: Truth) -> None:
    # Nothing failed, so that nothing excuses it.
    hops = reconcile(lose_before_loki(write_books(replace(truth, failed_of_batch=0))))
    assert unexplained(hops) == ["Loki's exporter -> Loki"]


@pytest.mark.parametrize(
    ("missing", "unseen"),
    [
        ({"applications": None}, {"in the application", "application -> Collector"}),
        ({"counted": None}, {"Collector, receiver -> counts", "filter/errors"}),
        ({"loki": None}, {"Loki's exporter -> Loki", "in Loki"}),
        ({"files": None}, {"app.jsonl", "errors.jsonl", "ai_responses.jsonl"}),
        ({"collector": None}, {"Collector, receiver -> Loki's exporter", "Loki's exporter -> Loki", "filter/errors"}),
    ],
)
@given(truth=truths())
@settings(max_examples=sized(15, full=30))
def test_a_source_that_is_missing_is_not_seen_and_spoils_nothing(
    missing: dict[str, None], unseen: set[str], truth: Truth
) -> None:
    # Without one of them, what only it explains must not be there.
    quiet = replace(truth, refused_late=0, resent=0, retried=0, rate_limited=0, to_loki=0, too_long=0)
    hops = reconcile(replace(write_books(quiet), **missing))
    assert unexplained(hops) == []
    assert unseen <= {hop.name for hop in hops if hop.verdict is Verdict.NOT_SEEN}


@pytest.mark.parametrize("stream", ["app", "errors", "ai_responses"])
@given(truth=truths())
@settings(max_examples=sized(10, full=20))
def test_records_that_come_from_nowhere_are_too_many(stream: str, truth: Truth) -> None:
    hops = reconcile(with_file(write_books(truth), stream, 1))
    assert unexplained(hops) == [f"{stream}.jsonl"]
    assert "1 record too many" in next(hop.describe() for hop in hops if hop.rest)


# A Collector that was killed, and counted after its last scrape.


@given(truth=truths(), unscraped=st.integers(1, 100))
def test_what_a_killed_collector_had_counted_is_proven_by_both_ends(truth: Truth, unscraped: int) -> None:
    books = write_books(replace(truth, refused_late=0))
    assert books.collector is not None
    lacking = max(0, books.collector.accepted - unscraped)
    hops = reconcile(with_collector(books, accepted=lacking, restarts=1))
    assert unexplained(hops) == []
    assert any(part.kind is Kind.UNSEEN for hop in hops for part in hop.parts) or truth.resent >= unscraped


@given(truth=truths(), unscraped=st.integers(1, 100))
def test_what_a_killed_loki_had_counted_is_proven_by_both_ends(truth: Truth, unscraped: int) -> None:
    books = write_books(replace(truth, retried=0, rate_limited=0, failed_of_batch=0))
    assert books.loki is not None and books.loki.received is not None
    lacking = replace(books.loki, received=max(0, books.loki.received - unscraped))
    assert unexplained(reconcile(replace(books, loki=lacking))) != []
    hops = reconcile(replace(books, loki=replace(lacking, restarts=1)))
    assert unexplained(hops) == []


@given(truth=truths())
def test_a_killed_collector_excuses_no_record_that_the_files_lack(truth: Truth) -> None:
    books = write_books(replace(truth, resent=0, refused_late=0))
    hops = reconcile(with_collector(with_file(books, "app", -1), restarts=1))
    assert unexplained(hops) == ["app.jsonl", "application -> app.jsonl"]


def test_without_an_end_to_compare_with_a_restart_leaves_it_uncertain() -> None:
    app = Application("shop", "1", created=10, exported=10)
    hops = reconcile(Books(applications=(app,), collector=Collector(accepted=7, restarts=1)))
    [hop] = [hop for hop in hops if hop.rest]
    assert (hop.name, hop.verdict) == ("application -> Collector", Verdict.UNCERTAIN)
    assert "has begun again once" in hop.describe()


# Records that still come.


def test_while_records_come_nothing_is_called_lost_but_by_no_more_than_have_come() -> None:
    app = Application("shop", "1", created=10, exported=10)
    books = Books(applications=(app,), collector=Collector(accepted=13), counted={"shop": {"info": 10}}, moving=3)
    assert {hop.verdict for hop in reconcile(books)} == {Verdict.EQUAL, Verdict.ON_THE_WAY, Verdict.NOT_SEEN}
    late = replace(books, counted={"shop": {"info": 9}})
    assert unexplained(reconcile(late)) == ["Collector, receiver -> counts"]


# One service.


def test_one_service_is_seen_alone() -> None:
    truth_free = Books(
        applications=(Application("a", "1", created=5, exported=5), Application("b", "2", created=9, exported=9)),
        collector=Collector(accepted=14),
        counted={"a": {"info": 5}, "b": {"info": 9}},
        loki=Loki(held={"a": 5, "b": 8}, received=14, discarded={"line_too_long": 1}),
    )
    hops = reconcile(truth_free)
    alone = narrow(hops, "a")
    assert [(hop.name, hop.difference, hop.verdict) for hop in alone if hop.verdict is not Verdict.NOT_SEEN] == [
        ("in the application a", 0, Verdict.EQUAL),
        ("application -> Collector", 0, Verdict.EQUAL),
        ("in Loki", 0, Verdict.EQUAL),
    ]
    # What nobody has seen, nobody has seen of this service.
    assert list_unseen(alone) == list_unseen(hops) != []
    [loki] = [hop for hop in narrow(hops, "b") if hop.name == "in Loki"]
    assert (loki.before, loki.before_name, loki.after, loki.verdict) == (9, "counted", 8, Verdict.EXPLAINED)
    assert loki.describe() == "in Loki: discarded, line_too_long: 1 record lost"


def test_an_unexplained_loss_is_that_services_alone() -> None:
    books = Books(
        collector=Collector(accepted=14),
        counted={"a": {"info": 5}, "b": {"info": 9}},
        loki=Loki(held={"a": 5, "b": 8}, received=14),
    )
    assert {hop.verdict for hop in narrow(reconcile(books), "a")} == {Verdict.EQUAL, Verdict.NOT_SEEN}
    assert Verdict.UNEXPLAINED in {hop.verdict for hop in narrow(reconcile(books), "b")}


def test_a_400_for_one_line_is_a_loss_of_that_line_only() -> None:
    """Loki held 49 of 50, and the Collector says that all 50 have failed."""
    books = Books(
        collector=Collector(accepted=50, exporters={"otlp_http/loki": Exporter(failed=50)}),
        loki=Loki(held={"shop": 49}, received=50, discarded={"line_too_long": 1}),
    )
    hops = reconcile(books)
    assert find_worst(hops) is Verdict.EXPLAINED
    assert [hop.describe() for hop in hops if hop.describe()] == ["in Loki: discarded, line_too_long: 1 record lost"]


def test_a_service_without_a_ledger_does_not_disturb_the_others() -> None:
    books = Books(
        applications=(Application("a", "1", created=5, exported=5),),
        collector=Collector(accepted=12),
        counted={"a": {"info": 5}, "stranger": {"info": 7}},
    )
    assert unexplained(reconcile(books)) == []
