"""After a change of the configuration each node says once more that nothing of the group is left over there."""

from msgspec.structs import replace

from hamail.core.apply import apply
from hamail.core.cleaning import RETRY_MS
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.state import Evidence
from hamail.simulation.spec import mail_group
from tests.unit.test_core_apply import began
from tests.unit.test_core_engine import LIFE, Bench


def added(bench):
    groups = {**bench.spec.groups, "web": mail_group(("n1", "n2"), bench.spec.groups["mail"].requires, name="web")}
    bench.forget()
    spec = replace(bench.spec, groups=groups)
    assert bench.commit(c.ApplyConfig(at_ms=0, spec=spec, source="", expected_revision=1)).accepted
    return bench.index


def test_the_report_names_what_the_executor_has_searched_for():
    b = Bench().joined()
    config = added(b)
    b.tick()
    assert b.take(a.Configure)[-1].config == config
    assert b.take(a.CleanUp)
    b.notice(a.Cleaned(ok=True, config=1, groups=("mail",)))  # an earlier search, under the old configuration
    b.tick()
    assert not b.take(c.CleanedUp)
    b.forget()
    b.tick()
    b.notice(a.Cleaned(ok=True, config=config, groups=("mail", "web")))
    b.tick()
    report = b.take(c.CleanedUp)[-1]
    assert report.cleaned == {"web": config}
    assert b.commit(report).accepted
    b.forget()
    b.tick(2 * RETRY_MS)
    assert not b.take(a.CleanUp) and not b.take(c.CleanedUp)


def test_a_restarted_hamaild_searches_again():
    b = Bench().joined()
    config = added(b)
    b.welcome()  # the same executor, but whoever asked it is gone
    b.forget()
    b.tick()
    b.notice(a.Cleaned(ok=False, config=config, groups=("mail",), detail="web: still mounted"))
    b.tick()
    assert b.e.local.why_passive() == "", "it can still take mail"
    assert "still mounted" in b.take(c.Annotate)[-1].sentence
    b.forget()
    b.tick(RETRY_MS)
    assert b.take(a.CleanUp)


def test_what_is_held_is_searched_once_it_is_released():
    b = Bench().joined().granted().leased().up()
    store, *rest = b.spec.groups["mail"].resources
    other = replace(store, parameters={"device": "/dev/other"})
    mail = replace(b.spec.groups["mail"], resources=(other, *rest))
    b.forget()
    b.commit(c.ApplyConfig(at_ms=0, spec=replace(b.spec, groups={"mail": mail}), source="", expected_revision=1))
    b.tick(RETRY_MS)
    assert not b.take(a.CleanUp)
    b.notice(a.GroupDown(group="mail", epoch=b.epoch, took_ms=1))
    b.commit(b.take(c.Released)[-1])
    b.tick()
    assert b.take(a.CleanUp)


def test_apply_grants_nothing_that_a_node_may_still_run():
    state = began()
    spec = replace(state.spec, groups={**state.spec.groups, "web": replace(state.spec.groups["mail"], name="web")})
    state, _ = apply(state, 20, c.ApplyConfig(at_ms=0, spec=spec, source="", expected_revision=1))
    grant = c.Grant(at_ms=0, group="web", node="n1", expected_epoch=0, evidence=Evidence.NEVER_OWNED)
    mail = replace(grant, group="mail", expected_epoch=state.group("mail").epoch)
    assert apply(state, 21, mail)[1].accepted, "mail has not changed"
    assert "n1 and n2 may still run" in apply(state, 21, grant)[1].reasons[0]
    for index, name in ((21, "n1"), (22, "n2")):
        life = state.node(name).incarnation
        stranger = c.CleanedUp(at_ms=0, node=name, incarnation=replace(LIFE, executor_id="z"), cleaned={"web": 20})
        assert not apply(state, index, stranger)[1].accepted
        assert not apply(state, index, grant)[1].accepted
        state, _ = apply(state, index, c.CleanedUp(at_ms=0, node=name, incarnation=life, cleaned={"web": 20}))
    assert apply(state, 23, grant)[1].accepted
    lost = apply(state, 23, replace(grant, unheard=("n2",)))
    assert lost[1].accepted
