"""An issuer that has just been started is not idle: who woke it must be served."""

from collections import Counter
from typing import Any

from hamail.enrol import __main__ as issuer
from hamail.enrol.server import Server


class Fresh:
    """Like the server: it has not begun when it is asked for the first time."""

    def __init__(self) -> None:
        self.served = False

    async def serve(self, _sock: Any) -> None:
        self.served = True


async def test_the_one_that_woke_it_is_served(monkeypatch) -> None:
    server = Server.__new__(Server)
    server._hosts, server._idle_since_s = Counter(), None
    fresh = Fresh()
    monkeypatch.setattr(server, "serve", fresh.serve, raising=False)

    class Passed:
        def setblocking(self, _on: bool) -> None:
            pass

    await issuer._serve(server, Passed())  # type: ignore[arg-type]
    assert fresh.served
