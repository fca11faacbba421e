"""The connection to the executor, from hamaild's side."""

import asyncio

import pytest

from hamail.daemon.executor_link import ExecutorLink
from hamail.executor import wire
from hamail.model import actions as a
from hamail.model.state import Incarnation

WELCOME = a.Welcome(
    incarnation=Incarnation(boot_id="b", executor_id="x"), groups={}, watchdog=a.WatchdogStatus(), clean=True
)


def test_a_bug_in_handling_a_notice_ends_hamaild(tmp_path):
    """It must not live on without its executor, telling people that the executor is down: systemd starts it afresh."""

    async def main() -> None:
        async def greet(_reader, writer) -> None:
            writer.write(wire.encode(WELCOME))
            await writer.drain()

        server = await asyncio.start_unix_server(greet, tmp_path / "socket")

        def broken(_notice: a.AnyNotice) -> None:
            raise KeyError("a bug")

        link = ExecutorLink(tmp_path / "socket", broken, lambda: None)
        link.start()
        await asyncio.sleep(1)
        await link.stop()
        server.close()

    with pytest.raises(SystemExit):
        asyncio.run(main())
