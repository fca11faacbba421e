"""What a change of the configuration would do, said before it is applied; and the revisions that are kept."""

from msgspec.structs import replace

from hamail.core.apply import apply
from hamail.core.config_effects import effects, refusals
from hamail.model import commands as c
from hamail.model.spec import Requirement
from hamail.model.state import REVISIONS_CHARACTERS_MAX, REVISIONS_KEPT
from hamail.simulation.spec import cluster
from tests.unit.test_core_apply import LOST, active, run

SPEC = active().spec
CALM = "nothing is stopped, moved or fenced by this"


def with_resource(name, **parameters):
    group = SPEC.groups["mail"]
    changed = tuple(replace(r, parameters=parameters) if r.name == name else r for r in group.resources)
    return replace(SPEC, groups={"mail": replace(group, resources=changed)})


def test_what_runs_goes_on_and_the_operator_is_told_how_the_change_takes_effect():
    told = effects(active(), with_resource("store", device="/dev/other"))
    assert told == (
        "store of mail: n1 goes on as it is; takes effect at the next start of mail, for instance by hamailctl "
        "switchover mail",
        CALM,
    )


def test_less_safety_is_said_first():
    told = effects(active(), replace(SPEC, fencing={}))
    assert told[0] == "! nothing could fence n1 any more: its loss would wait for an operator"
    weaker = replace(SPEC, groups={"mail": replace(SPEC.groups["mail"], requires=Requirement.LEASE)})
    assert effects(active(), weaker)[0].startswith("! mail would move without a fence, on lease alone")


def test_groups_come_and_go():
    two = cluster(groups=("lists", "mail"))
    assert effects(active(), two)[0].startswith("lists is started as soon as every node has made sure")
    assert effects(active(two), SPEC)[0] == "lists is not looked after any more; nothing of it runs now"


def test_detection_and_devices():
    told = effects(active(), replace(SPEC, detection_ms=3000))
    assert told[0].startswith("a node is missed after 3 s of silence instead of 1 s")
    slower = {name: replace(d, timeout_ms=d.timeout_ms + 1) for name, d in SPEC.fencing.items()}
    assert "asked within a minute" in effects(active(), replace(SPEC, fencing=slower))[0]


def test_what_the_cluster_would_refuse_is_said_before():
    changed = with_resource("store", device="/dev/other")
    assert refusals(active(), changed) == ()
    moving = run(active(), LOST, start=20)
    assert refusals(moving, changed) == ("mail is fencing: wait until that is over",)
    assert apply(moving, 99, c.ApplyConfig(at_ms=0, spec=changed, source="", expected_revision=1))[1].accepted is False


def revised(times, text="x"):
    state = active()
    for number in range(times):
        change = c.ApplyConfig(
            at_ms=0, spec=state.spec, source=f"{text}{number}", expected_revision=state.config.revision
        )
        state, outcome = apply(state, state.applied + 1, change)
        assert outcome.accepted
    return state


def test_earlier_revisions_are_kept_in_bounds():
    state = revised(REVISIONS_KEPT + 5)
    assert [r.source for r in state.revisions] == [f"x{n}" for n in range(4, REVISIONS_KEPT + 4)]
    assert state.config.revision == state.revisions[-1].revision + 1


def test_long_texts_push_earlier_ones_out():
    state = revised(6, text="y" * (REVISIONS_CHARACTERS_MAX // 3))
    assert len(state.revisions) == 2
