"""What wants attention: which alerts are pending, since when, and that nothing else is said twice."""

import re

import pytest
from control_fake import T0, FakeBackend
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from structlog.testing import capture_logs

from hamail.model.alert import KINDS, Alert, alert
from hamail.model.practice import Incident
from hamail.model.state import Maintenance, Phase, Severity, Term
from hamail.model.status import BudgetView, Candidate, PolicyView, Status
from hamail.monitoring.alerts import CERTIFICATE_MS, DAY_MS, MAINTENANCE_LONG_MS, pending
from hamail.monitoring.board import Board

SILENT = {"alive": False, "silent_ms": 2500}
NOBODY = (Candidate(node="n1", eligible=True, reason=""), Candidate(node="n2", eligible=False, reason="not heard"))
NOW = FakeBackend().status().at_ms
LONG = Term(since=1, since_ms=NOW - MAINTENANCE_LONG_MS, actor="root", reason="new disk")
SHORT = replace(LONG, since_ms=LONG.since_ms + 1)


FAILED = {"vip": "up", "postfix": "failed"}


def status(nodes: dict | None = None, group: dict | None = None, **changes) -> Status:
    backend = FakeBackend()
    backend.node_changes, backend.group_changes, backend.status_changes = nodes or {}, group or {}, changes
    return replace(backend.status(), alerts=())


def told(found: tuple[Alert, ...]) -> list[tuple[str, str]]:
    return [(a.name, a.subject) for a in found]


def policy(**changes) -> PolicyView:
    return PolicyView(restarts="3 in 10m", **changes)


def budget(limit: int, used: int) -> BudgetView:
    return BudgetView(allowed=f"{limit} in 15m", limit=limit, window_ms=900_000, used=used)


def test_a_healthy_cluster_has_none():
    assert pending(status()) == ()


@pytest.mark.parametrize(
    ("seen", "name", "subject", "text"),
    [
        ({"nodes": {"n2": SILENT}}, "node-not-heard", "n2", "n2 has not been heard for 2.5 s"),
        ({"nodes": {"n2": {"alive": False, "silent_ms": 734_000}}}, "node-not-heard", "n2", "been heard for 12 min"),
        ({"nodes": {"n3": SILENT}}, "witness-lost", "n3", "witness n3 has not been heard for 2.5 s"),
        ({"nodes": {"n2": {"ready": False, "detail": "full"}}}, "node-not-ready", "n2", "n2 is not ready: full"),
        ({"nodes": {"n2": {"fence_devices": {"pdu": "no answer", "ipmi": ""}}}}, "fence-not-ready", "n2",
         "n2 could not be fenced with pdu: no answer"),
        ({"nodes": {"n2": {"watchdog": "not armed"}}}, "watchdog-not-armed", "n2", "would not reset n2 in time"),
        ({"nodes": {"n2": {"quarantine": replace(LONG, until_ms=T0)}}}, "quarantined", "n2", "quarantine until"),
        ({"nodes": {"n1": {"fence_failure": "pdu: off"}}}, "fence-failed", "n1", "n1 could not be fenced, and is"),
        ({"nodes": {"n2": {"certificate_expires_ms": NOW + CERTIFICATE_MS - 1}}}, "certificate-expires", "n2",
         "expires in 59 days"),
        ({"nodes": {"n2": {"certificate_expires_ms": NOW - 1}}}, "certificate-expired", "n2", "EXPIRED on"),
        ({"nodes": {"n2": {"certificate_revoked": True}}}, "certificate-revoked", "n2", "no other node talks to it"),
        ({"group": {"candidates": NOBODY}}, "no-standby", "mail", "mail has no standby: if n1 fails, mail stops"),
        ({"group": {"candidates": NOBODY, "last_resorts": ("n2",)}}, "no-standby", "mail", "but n2, in quarantine"),
        ({"group": {"phase": Phase.BLOCKED}}, "group-blocked", "mail", "only you can say whether n1 is off"),
        ({"group": {"phase": Phase.IDLE, "owner": None}}, "group-not-active", "mail", "mail is down: no node runs it"),
        ({"group": {"phase": Phase.IDLE, "owner": None, "retry": "mail waits; next try"}}, "group-not-active", "mail",
         "mail waits; next try"),
        ({"group": {"phase": Phase.FENCING}}, "group-not-active", "mail", "n1 may still hold it and is being fenced"),
        ({"group": {"denied": True}}, "group-gone", "mail", "does not run on n1 any more"),
        ({"group": {"resources": FAILED}}, "service-failed", "mail", "postfix of mail has failed on n1, and hamail is"),
        ({"group": {"resources": FAILED, "policy": policy(hands_off="mail is in maintenance; off", maintenance=SHORT)}},
         "service-down", "mail", "postfix of mail has failed on n1, and nothing is done about it: mail is in maint"),
        ({"group": {"resources": FAILED, "optional": ("postfix",), "policy": policy(hands_off="why")}},
         "service-failed", "mail", "nothing is done about it: why"),
        ({"broken_links": (("n1", "n2"),)}, "link-broken", "n1-n2", "the link between n1 and n2 is broken"),
        ({"broken_links": (("n1", "n2"),), "nodes": {"n2": SILENT}}, "link-broken", "n1-n2", "both live"),
        ({"group": {"policy": policy(used_up="mail has used up", failovers=(budget(1, 1),))}}, "failovers-used-up",
         "mail", "mail has used up: it moves for no failed service"),
        ({"maintenance": Maintenance(on=True, since_ms=LONG.since_ms)}, "maintenance-on-long", "mail-pair", "since"),
        ({"group": {"policy": policy(maintenance=LONG)}}, "maintenance-on-long", "mail", "by root (new disk)"),
        ({"nodes": {"n2": {"maintenance": LONG}}}, "maintenance-on-long", "n2", "by root (new disk)"),
        ({"maintenance": Maintenance(suspended=("n2",))}, "deadman-suspended", "n2", "may still be suspended"),
        ({"fault": "its journal is damaged"}, "fail-stop", "n1", "n1 takes no part: its journal is damaged"),
        ({"quorum": False}, "no-coordinator", "n1", "nothing is decided: n1 knows of no coordinator"),
        ({"nodes": {"n2": SILENT, "n3": SILENT}}, "no-majority", "n1", "n1 decides nothing"),
        ({"incidents": (Incident(id=4, title="slow", opened_ms=T0, actor="root", since=4),)}, "incident-open", "4",
         "incident 4 is open since 2026-11-18 11:06:40 UTC: slow"),
    ],
)  # fmt: skip
def test_each_is_told_alone_with_what_to_do_next(seen, name, subject, text):
    found = pending(status(**seen))
    assert told(found) == [(name, subject)]
    assert text in found[0].text and found[0].severity is KINDS[name].severity
    assert found[0].next_step and "{" not in found[0].next_step


@pytest.mark.parametrize(
    "seen",
    [
        {"nodes": {"n2": {"certificate_expires_ms": NOW + CERTIFICATE_MS}}},
        {"nodes": {"n2": {**SILENT, "restarting": True}}},  # it has said so
        {"nodes": {"n2": {"standby": True}}},
        {"nodes": {"n3": {"watchdog": "none"}}},
        {"group": {"policy": policy(bans={"n2": LONG})}},
        {"group": {"policy": policy(used_up="mail never moves", failovers=(budget(0, 0),))}},  # as it is configured
        {"group": {"policy": policy(maintenance=SHORT)}},
        {"nodes": {"n2": {"maintenance": SHORT}}},
        {"maintenance": Maintenance(on=True, since_ms=SHORT.since_ms)},
        {"group": {"unsafe_reason": "a test"}},
        {"group": {"resources": {"vip": "up", "postfix": "starting"}}},
    ],
)
def test_what_was_ordered_or_passes_by_itself_is_none(seen):
    assert pending(status(**seen)) == ()


def test_what_is_down_in_maintenance_names_the_scope_that_ends_it():
    def step(**seen) -> str:
        return next(a.next_step for a in pending(status(**seen)) if a.name == "service-down")

    down = {"resources": {"postfix": "down"}}
    held = {**down, "policy": policy(hands_off="why")}
    assert step(group={**down, "policy": policy(hands_off="why", maintenance=SHORT)}).endswith("off --group mail")
    assert step(group=held, nodes={"n1": {"maintenance": SHORT}}).endswith("off --node n1")
    assert step(group=held, maintenance=Maintenance(on=True, since_ms=SHORT.since_ms)).endswith("maintenance off")


def test_the_resources_of_an_owner_that_is_not_heard_are_not_known():
    found = pending(status(node="n2", nodes={"n1": SILENT}, group={"resources": FAILED}))
    assert "service-failed" not in {a.name for a in found}


def test_without_a_majority_a_node_tells_of_itself_only():
    lost = {"n2": SILENT, "n3": SILENT}
    (only,) = pending(status(nodes=lost, group={"phase": Phase.FENCING}, quorum=False))
    assert (only.name, only.subject) == ("no-majority", "n1")
    (worse,) = pending(status(nodes=lost, quorum=False, fault="its disk is full"))
    assert worse.name == "fail-stop", "why it is silent, not what follows from it"


def test_while_a_leader_is_elected_the_rest_is_still_told():
    found = pending(status(nodes={"n2": SILENT}, quorum=False, coordinator=None))
    assert told(found) == [("no-coordinator", "n1"), ("node-not-heard", "n2")]


def test_the_worst_comes_first():
    found = pending(status(nodes={"n2": {**SILENT, "fence_failure": "x"}}, group={"candidates": NOBODY}))
    assert told(found) == [("fence-failed", "n2"), ("no-standby", "mail"), ("node-not-heard", "n2")]
    ranks = [kind.severity for kind in KINDS.values()]
    assert ranks == sorted(ranks, key=[Severity.CRITICAL, Severity.WARNING].index)


def test_every_kind_comes_up_in_a_test():
    marks = test_each_is_told_alone_with_what_to_do_next.pytestmark
    assert {name for mark in marks for _, name, _, _ in mark.args[1]} == set(KINDS)


def test_names_are_for_rules():
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in KINDS)


node_views = st.fixed_dictionaries(
    {
        "alive": st.booleans(), "ready": st.booleans(), "witness": st.booleans(), "restarting": st.booleans(),
        "watchdog": st.sampled_from(("armed", "not armed", "none")),
        "fence_failure": st.sampled_from(("", "why")), "fence_devices": st.sampled_from(({}, {"a": "x", "b": "y"})),
        "quarantine": st.sampled_from((None, LONG)), "maintenance": st.sampled_from((None, LONG)),
        "certificate_expires_ms": st.sampled_from((0, 1, NOW + DAY_MS)),
    }
)  # fmt: skip
group_views = st.fixed_dictionaries(
    {
        "phase": st.sampled_from(Phase), "owner": st.sampled_from((None, "n1", "n2")), "denied": st.booleans(),
        "candidates": st.sampled_from(((), NOBODY)), "last_resorts": st.sampled_from(((), ("n2",))),
        "retry": st.sampled_from(("", "soon")),
        "policy": st.sampled_from((None, policy(maintenance=LONG, used_up="x", failovers=(budget(1, 1),)))),
    }
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(("n1", "n2", "n3")), node_views), group_views, st.booleans(), st.booleans())
def test_whatever_there_is_no_two_have_the_same_name_and_subject(nodes, group, quorum, maintenance):
    """They are labels of metrics: twice the same would make Prometheus refuse all of them."""
    held = Maintenance(on=maintenance, since_ms=1, suspended=("n1", "n2"))
    found = pending(status(nodes, group, quorum=quorum, maintenance=held))
    assert len(told(found)) == len(set(told(found)))


def test_an_alert_lasts_since_it_was_first_seen():
    board, first, second = Board(), alert("no-standby", "mail", "a"), alert("node-not-heard", "n2", "b")
    with capture_logs() as lines:
        assert board.see((first,), 1000) == (replace(first, since_ms=1000),)
        changed = replace(first, text="other words")
        assert [a.since_ms for a in board.see((changed, second), 2000)] == [1000, 2000]
        assert [a.since_ms for a in board.see((second,), 3000)] == [2000]
        assert [a.since_ms for a in board.see((first,), 4000)] == [4000], "it has come again"
    assert [(x["event"], x["alert"]) for x in lines] == [
        ("alert", "no-standby"), ("alert", "node-not-heard"), ("alert is over", "no-standby"),
        ("alert is over", "node-not-heard"), ("alert", "no-standby"),
    ]  # fmt: skip
