"""A group that the configuration adds or changes is searched for on a node whose boot hold is long over."""

import pytest
from executor_world import root_folder, world

from hamail.model.actions import Cleaned, CleanUp, Configure, GroupDown, GroupUp, StopGroup

pytestmark = pytest.mark.root


@pytest.fixture
def folder():
    with root_folder() as made:
        yield made


async def clean(w, config, *groups) -> Cleaned:
    assert w.ask(Configure, cluster="test", groups=groups, config=config) == ""
    assert w.ask(CleanUp) == ""
    return await w.wait_for(Cleaned)


async def test_what_is_held_under_the_old_configuration_is_not_called_clean(folder):
    async with world(folder) as w:
        mail, web = w.group(w.resource("a")), w.group(w.resource("b"), name="web")
        assert (await clean(w, 2, mail)).groups == ("mail",)
        assert w.start(mail, epoch=5) == ""
        await w.wait_for(GroupUp)
        changed = w.group(w.resource("a"), w.resource("c"))
        said = await clean(w, 6, changed, web)
        assert said.ok and (said.config, said.groups) == (6, ("web",))
        assert w.ask(StopGroup, group="mail", epoch=5, why="test") == ""
        await w.wait_for(GroupDown)
        assert set((await clean(w, 6, changed, web)).groups) == {"mail", "web"}


async def test_a_group_that_cannot_be_cleaned_does_not_bring_the_boot_hold_back(folder):
    async with world(folder) as w:
        mail = w.group(w.resource("a"))
        web = w.group(w.resource("x", agent="hamail:nosuch"), name="web")
        assert (await clean(w, 2, mail)).ok
        said = await clean(w, 3, mail, web)
        assert not said.ok and "web" in said.detail
        assert (said.config, said.groups) == (3, ("mail",))
        assert w.executor.welcome().clean
        assert w.start(mail, epoch=5) == ""
        await w.wait_for(GroupUp)
