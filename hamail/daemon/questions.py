"""Questions to other nodes, over the links that hamail has anyway: an answer in time, or words why there is none."""

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import Generic, TypeVar

from hamail import __version__
from hamail.core.engine import Engine
from hamail.model.ids import NodeName
from hamail.model.messages import AnyMessage

Answer = TypeVar("Answer")


class Questions(Generic[Answer]):
    """Of one kind."""

    def __init__(self, engine: Engine, send: Callable[[NodeName, AnyMessage], bool]) -> None:
        self._engine = engine
        self._send = send
        self._nonces = itertools.count(secrets.randbits(60))  # an answer to an earlier life of hamaild fits none
        self._waiting: dict[tuple[NodeName, int], asyncio.Future[Answer]] = {}

    async def ask(
        self, peer: NodeName, question: Callable[[int], AnyMessage], limit_s: float, name: str = "it"
    ) -> Answer | str:
        """`question` makes the message from its number; `name`: how the words speak of the node."""
        beat = self._engine.members.peers[peer].heartbeat
        if beat is None:
            return f"{name} has not been heard since this node started"
        if beat.version != __version__:
            # an older hamaild drops the link at a message that it does not know
            return f"{name} runs hamail {beat.version or 'of an unknown version'}, this node {__version__}"
        key = (peer, next(self._nonces))
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[key] = waiting
        try:
            if not self._send(peer, question(key[1])):
                return f"there is no link from {self._engine.me} to {name} just now"
            async with asyncio.timeout(limit_s):
                return await waiting
        except TimeoutError:
            return f"{name} has not answered within {limit_s:g} s"
        finally:
            del self._waiting[key]

    def answered(self, peer: NodeName, nonce: int, answer: Answer) -> None:
        """What nobody waits for any more is dropped."""
        waiting = self._waiting.get((peer, nonce))
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
