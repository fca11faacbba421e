"""The last word on everything that happened to the cluster in this session."""

import pytest

from tests.cluster.world import World

ENOUGH = 5


@pytest.mark.last
def test_no_acknowledged_mail_was_lost(world: World) -> None:
    world.until(lambda: world.load.progress().acknowledged >= ENOUGH, 30, "mail flows")
    verdict = world.verdict()
    print(f"{verdict.acknowledged} acknowledged, {verdict.found} found, {len(verdict.duplicated)} duplicates")
    assert verdict.passed, verdict
    assert verdict.acknowledged >= ENOUGH


@pytest.mark.last
def test_never_two_active(world: World) -> None:
    """Over the whole session, with what happened between the tests."""
    evidence = world.check_evidence(0)
    components = {"mount", "postfix", "dovecot", f"vip {world.lab.addresses.vip}", f"vip {world.lab.addresses.vip6}"}
    assert set(evidence.components()) == components, "the recorder knows what it is to look for"
    print(f"possibly {evidence.possible_double_active_ms():.0f} ms; watched for {evidence.lasted_s:.0f} s")
