"""Looks at this machine for `hamailctl doctor`, in a child process that this one can end and need not wait for.

Storage that is dead, or a program that hangs, must hold up neither the event loop nor the end of this process. What is
looked at is fixed in `hamail.machine`; from hamaild comes no word of it but the configured groups, and of these only
what the node's own policy allows.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable

import msgspec

from hamail.executor.policy import Policy
from hamail.model.actions import FactsGathered
from hamail.model.machine import FACTS_BYTES_MAX, MachineFacts
from hamail.model.spec import GroupSpec, ResourceSpec

TIMEOUT_S = 8.0
FRESH_S = 2.0  # asked again within this time, the same facts are told again
COMMAND = (sys.executable, "-I", "-m", "hamail.machine")  # -I: no folder and no variable of anybody else's
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/"}

log = logging.getLogger("hamail.executor.gather")


class Gatherer:
    """One look at a time; whoever asks meanwhile gets the same answer."""

    def __init__(
        self, policy: Policy, tell: Callable[[FactsGathered], None], command: tuple[str, ...] = COMMAND
    ) -> None:
        self._policy = policy
        self._tell = tell
        self._command = command
        self._task: asyncio.Task[None] | None = None
        self._stuck: asyncio.subprocess.Process | None = None  # killed, and not gone: it waits for a dead disk
        self._last: FactsGathered | None = None
        self._last_s = 0.0

    def begin(self, groups: Iterable[GroupSpec]) -> str:
        """Begin a look; ends with `FactsGathered`. Returns why not, "" when begun."""
        if self._task is not None and not self._task.done():
            return ""  # its answer is this one's as well
        if self._stuck is not None and self._stuck.returncode is None:
            return "an earlier look at this machine still hangs; is a disk of it dead?"
        if self._last is not None and time.monotonic() - self._last_s < FRESH_S:
            asyncio.get_running_loop().call_soon(self._tell, self._last)
            return ""
        allowed, refused = allowed_resources(groups, self._policy)
        self._task = asyncio.create_task(self._look(allowed, refused))
        return ""

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _look(self, groups: tuple[GroupSpec, ...], refused: tuple[str, ...]) -> None:
        told = FactsGathered(facts=None, problem="this machine cannot be looked at: see the log of hamail-executor")
        try:
            raw = await self._run(msgspec.msgpack.encode(groups))
            facts = msgspec.msgpack.decode(raw, type=MachineFacts)
            told = FactsGathered(facts=msgspec.structs.replace(facts, problems=facts.problems + refused))
        except TimeoutError:
            told = FactsGathered(facts=None, problem=f"looking at this machine took more than {TIMEOUT_S:g} s")
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            log.warning("looking at this machine failed: %r", error)
        finally:
            self._last, self._last_s = told, time.monotonic()
            self._tell(told)

    async def _run(self, question: bytes) -> bytes:
        """What the child prints, at most FACTS_BYTES_MAX of it. Raises TimeoutError, OSError, ValueError."""
        child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_ENVIRONMENT,
            start_new_session=True,
        )
        assert child.stdin is not None and child.stdout is not None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                child.stdin.write(question)
                child.stdin.write_eof()
                answer = b""
                while chunk := await child.stdout.read(FACTS_BYTES_MAX):
                    answer += chunk
                    if len(answer) > FACTS_BYTES_MAX:
                        raise ValueError(f"more than {FACTS_BYTES_MAX} bytes of facts")
                if code := await child.wait():
                    raise ValueError(f"exit code {code}")
                return answer
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                self._stuck = child


def allowed_resources(groups: Iterable[GroupSpec], policy: Policy) -> tuple[tuple[GroupSpec, ...], tuple[str, ...]]:
    """The groups with what this node allows of them, and a sentence for what it does not."""
    refused: list[str] = []

    def fits(resource: ResourceSpec) -> bool:
        why = policy.refuse_agent(resource.agent) or policy.refuse_resource(resource)
        if why:
            refused.append(f"resource {resource.name}: {why}")
        return not why

    kept = tuple(
        msgspec.structs.replace(group, resources=tuple(r for r in group.resources if fits(r))) for group in groups
    )
    return kept, tuple(refused)
