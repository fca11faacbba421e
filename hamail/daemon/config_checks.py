"""Would every mail node take a configuration? Each looks at what only itself can tell: its agents, what its root
allows, its interfaces. A node that does not answer in time is unknown, and holds nothing up: it may be off.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from hamail.config import ConfigError, parse_cluster
from hamail.config.local import check_local, local_interfaces
from hamail.control.api import GIVEN
from hamail.core.engine import Engine
from hamail.daemon import agent_check
from hamail.daemon.questions import Questions
from hamail.executor.policy import ANYTHING, Policy
from hamail.model.ids import NodeName
from hamail.model.messages import AnyMessage, ConfigAsk, ConfigTold
from hamail.model.spec import ClusterSpec

ANSWER_TIMEOUT_S = 4.0
ASKED_MAX = 4  # that wait here at a time; who asks beyond that gets no answer
PROBLEMS_MAX = 50  # that one node tells another
PROBLEM_CHARS_MAX = 1000

log = structlog.get_logger("hamail.config")


class ConfigChecks:
    def __init__(
        self,
        engine: Engine,
        send: Callable[[NodeName, AnyMessage], bool],
        agent_dirs: tuple[Path, ...] = (),
        policy: Policy = ANYTHING,
    ) -> None:
        """`agent_dirs`: where this node's agents are; empty on a witness, which has no use for them.
        `policy`: what its executor allows.
        """
        self._engine = engine
        self._send = send
        self._agent_dirs = agent_dirs
        self._policy = policy
        self._questions = Questions[tuple[str, ...]](engine, send)
        self._one = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def own(self, spec: ClusterSpec, *, given_only: bool = False) -> tuple[str, ...]:
        """Why this node could not take it. Blocks: call it in a thread. `given_only`: agents of other nodes' groups do
        not count."""
        me = self._engine.me
        if misfits := check_local(spec, local_interfaces(), me if me in spec.nodes else None):
            return tuple(f"{p.place}: {p.reason}" for p in misfits)
        if not self._agent_dirs:
            return ()
        return (
            *agent_check.problems(spec, self._agent_dirs, me if given_only else None),
            *agent_check.fence_problems(spec, me),
            *agent_check.disallowed(spec, me, self._policy),
        )

    async def elsewhere(self, source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Why other mail nodes could not take it, and whose word is missing, each with its node's name."""
        spec = self._engine.state.spec if self._engine.state.config.revision else self._engine.bootstrap
        asked = sorted(n for n in self._engine.members.peers if n in spec.nodes and not spec.nodes[n].witness)
        told = await asyncio.gather(*(self._of(peer, source) for peer in asked))
        problems: list[str] = []
        unknown: list[str] = []
        for peer, answer in zip(asked, told, strict=True):
            if isinstance(answer, str):
                unknown.append(f"whether {peer} could use it is unknown: {answer}")
            else:
                problems += (f"{peer}: {problem}" for problem in answer)
        return tuple(problems), tuple(unknown)

    async def _of(self, peer: NodeName, source: str) -> tuple[str, ...] | str:
        if self._engine.members.peers[peer].heartbeat is None or peer in self._engine.missed():
            return "it is not heard"
        return await self._questions.ask(peer, lambda n: ConfigAsk(nonce=n, source=source), ANSWER_TIMEOUT_S)

    def hear(self, sender: NodeName, message: ConfigAsk | ConfigTold) -> None:
        """Never waits."""
        if isinstance(message, ConfigTold):
            self._questions.answered(sender, message.nonce, _short(message.problems))
        elif len(self._tasks) >= ASKED_MAX:
            log.warning("configurations are to be checked faster than they can be", node=sender)
        else:
            task = asyncio.get_running_loop().create_task(self._answer(sender, message))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def _answer(self, asker: NodeName, message: ConfigAsk) -> None:
        async with self._one:
            found = await asyncio.to_thread(self._look, message.source)
        self._send(asker, ConfigTold(nonce=message.nonce, problems=_short(found)))

    def _look(self, source: str) -> tuple[str, ...]:
        try:
            return self.own(parse_cluster(source, GIVEN), given_only=True)
        except ConfigError as e:
            return tuple(f"{p.place}: {p.reason}" for p in e.problems)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a configuration could not be checked for another node", exc_info=error)


def _short(problems: tuple[str, ...]) -> tuple[str, ...]:
    """By the one who tells and by the one who hears: either may be wrong."""
    return tuple(problem[:PROBLEM_CHARS_MAX] for problem in problems[:PROBLEMS_MAX])
