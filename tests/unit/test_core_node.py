"""What this node does next for each group: the whole table of what it holds against what the log says."""

import pytest
from msgspec.structs import replace

from hamail.core import node
from hamail.core.lease import Asked, Ownership
from hamail.core.timing import derive
from hamail.model import actions as a
from hamail.model.spec import Requirement
from hamail.model.state import ClusterState, ConfigRevision, GroupState, Maintenance, Phase
from hamail.simulation.spec import cluster, mail_group

MS = 1_000_000
T = derive(1000, 5)
NOW = 100_000 * MS
SPEC = cluster(requires=Requirement.LEASE, levels=0)
REVISION = ConfigRevision(revision=1, index=1, applied_at_ms=0, actor="", reason="", source="")
LONG = Ownership(group="mail", epoch=7, since_ns=NOW, asked=(Asked(NOW, T.lease_ms),), until_ns=NOW + T.lease_ms * MS)
GONE = Ownership(group="mail", epoch=7, since_ns=NOW - 20 * T.lease_ms * MS)


def state(phase, owner="n1", **more):
    g = GroupState(phase=phase, owner=owner, epoch=7, sentence="an order")
    return ClusterState(spec=SPEC, config=REVISION, groups={"mail": replace(g, **more)})


def held(how, epoch=7):
    return {"mail": a.GroupStatus(epoch=epoch, state=how, soft_ns=0, hard_ns=0)}


def steps(s, holds=None, ownership=None):
    leases = {"mail": ownership} if ownership else {}
    return node.steps(s, "n1", holds or {}, leases, NOW, T)


@pytest.mark.parametrize(
    ("phase", "ownership", "expected"),
    [
        (Phase.STARTING, LONG, (node.Start("mail", 7),)),
        (Phase.STARTING, None, ()),
        (Phase.STARTING, replace(LONG, epoch=6), ()),
        (Phase.STARTING, replace(LONG, until_ns=NOW + MS), ()),
        (Phase.STOPPING, LONG, (node.Stop("mail", 7, "an order"),)),
        (Phase.ACTIVE, LONG, (node.Stop("mail", 7, "mail is not running here any more"),)),
    ],
)
def test_a_group_that_is_not_held(phase, ownership, expected):
    assert steps(state(phase), ownership=ownership) == expected


def test_a_grant_that_never_got_a_lease_is_given_back():
    (step,) = steps(state(Phase.STARTING), ownership=GONE)
    assert step == node.Stop("mail", 7, "no majority of voters has promised n1 a lease for mail")


def test_nothing_is_started_in_maintenance_and_what_was_being_stopped_is():
    on = Maintenance(on=True)
    assert steps(replace(state(Phase.STARTING), maintenance=on), ownership=LONG) == ()
    assert steps(replace(state(Phase.STOPPING), maintenance=on)) == (node.Stop("mail", 7, "an order"),)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ACTIVE, Phase.WAITING, Phase.FENCING, Phase.BLOCKED])
def test_what_it_holds_by_right_it_keeps(phase):
    assert steps(state(phase), held("up")) == ()


def test_what_it_holds_by_right_it_stops_when_told():
    assert steps(state(Phase.STOPPING), held("up")) == (node.Stop("mail", 7, "an order"),)
    assert steps(state(Phase.STOPPING), held("stopping")) == ()


def test_a_failed_stop_is_tried_again_only_when_somebody_has_seen_to_it():
    assert steps(state(Phase.STOPPING), held("stop_failed")) == ()
    assert steps(state(Phase.STOPPING, stuck=True), held("stop_failed")) == (node.Stop("mail", 7, "an order"),)
    assert steps(state(Phase.ACTIVE, owner="n2"), held("stop_failed")) == ()
    # also where it is left over of an earlier grant
    assert steps(state(Phase.STARTING), held("stop_failed", 5)) == ()
    assert steps(state(Phase.STOPPING, stuck=True), held("stop_failed", 5)) == (node.Stop("mail", 7, "an order"),)


@pytest.mark.parametrize(("owner", "epoch"), [("n2", 7), ("n1", 6), (None, 7)])
def test_what_it_holds_without_right_it_stops(owner, epoch):
    (step,) = steps(state(Phase.ACTIVE, owner=owner), held("up", epoch))
    assert step == node.Stop("mail", epoch, f"epoch {epoch} of mail is over: {owner or 'nobody'} owns epoch 7")


def test_a_group_that_left_the_configuration_is_stopped():
    s = replace(state(Phase.ACTIVE, owner=None), spec=replace(SPEC, groups={}))
    assert [step.group for step in steps(s, held("up"))] == ["mail"]


def repair(recent, fatal=False, elsewhere=True):
    return node.repair(mail_group(("n1", "n2"), Requirement.LEASE, restarts=3), recent, fatal, elsewhere)


def test_a_failed_resource_is_restarted_so_often_and_then_the_group_moves():
    assert repair(0) == node.Repair(False, "restart 1 of 3")
    assert repair(2) == node.Repair(False, "restart 3 of 3")
    assert repair(3).move and "restarted 3 times" in repair(3).why
    assert repair(0, fatal=True) == node.Repair(True, "no restart on this node can help")


def test_a_group_that_could_go_nowhere_is_restarted_for_ever():
    again = "the group does not move for it, so it is restarted here again"
    assert repair(3, elsewhere=False) == repair(0, fatal=True, elsewhere=False) == node.Repair(False, again)
