"""The pause before a group that nobody could start is tried again."""

from msgspec.structs import replace

from hamail.core.apply import apply
from hamail.core.retries import RETRY_MS, RETRY_MS_MAX, pause_ms
from hamail.model import commands as c
from hamail.model.state import Evidence
from tests.unit.test_core_apply import began


def test_it_doubles_up_to_ten_minutes():
    assert [pause_ms(n) for n in (0, 1, 2, 3, 4, 99)] == [
        RETRY_MS,
        2 * RETRY_MS,
        4 * RETRY_MS,
        8 * RETRY_MS,
        RETRY_MS_MAX,
        RETRY_MS_MAX,
    ]


def test_only_what_has_failed_is_tried_again_and_a_success_or_a_clear_ends_it():
    state = began()
    retry = c.Retry(at_ms=0, group="mail", expected_epoch=0)
    assert not apply(state, 20, retry)[1].accepted, "nothing has failed"
    grant = c.Grant(at_ms=0, group="mail", node="n1", expected_epoch=0, evidence=Evidence.NEVER_OWNED)
    state, _ = apply(state, 20, grant)
    about = {"at_ms": 0, "group": "mail", "node": "n1", "epoch": 20}
    state, _ = apply(state, 21, c.StartFailed(**about, resource="store", clean=True, detail="no device"))
    assert not apply(state, 22, retry)[1].accepted, "the epoch has changed"
    state, outcome = apply(state, 22, replace(retry, expected_epoch=20))
    assert outcome.accepted
    assert (state.group("mail").failed_on, state.group("mail").retries) == ((), 1)
    assert apply(state, 23, c.Clear(at_ms=0, group="mail"))[0].group("mail").retries == 0
    state, _ = apply(state, 23, replace(grant, expected_epoch=20))
    state, _ = apply(state, 24, c.Started(**{**about, "epoch": 23}))
    assert state.group("mail").retries == 0
