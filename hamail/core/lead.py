"""What only the leader of the log does and remembers: evidence from voters, open fences, handing the lead over.

All of it may be forgotten at any time: it is asked for again.
"""

from typing import TYPE_CHECKING, Any

from hamail.core.effects import Send, Transfer
from hamail.core.followers import Followers
from hamail.core.lease import MS
from hamail.core.proof import expires
from hamail.core.returns import Returns
from hamail.model import commands as c
from hamail.model.ids import Epoch, GroupName, LogIndex, NodeName
from hamail.model.messages import ReleaseAnswer, ReleaseRequest

if TYPE_CHECKING:
    from hamail.core.engine import Engine

RELEASE_RETRY_MS = 200
TRANSFER_PAUSE_MS = 5000
FENCE_RETRY_MS = 10_000  # after every device was tried once; doubled for each further round
FENCE_RETRY_MS_MAX = 300_000
APPLIED_LAG_MAX = 8  # entries that a node may be behind and still be handed the lead


class Lead:
    def __init__(self, engine: "Engine") -> None:
        self.e = engine
        self._released: dict[tuple[GroupName, Epoch], set[NodeName]] = {}  # voters that will never promise it again
        self._majority_at_ns: dict[tuple[GroupName, Epoch], int] = {}
        self._asked_ns: int | None = None
        self._transfer_ns = engine.now_ns
        self._fence_retry_at_ns: dict[NodeName, int] = {}
        self.followers = Followers(engine)
        self.returns = Returns()
        self._fence_seen_ns: dict[LogIndex, int] = {}  # open fence orders -> since when this node has known them

    def facts(self) -> dict[str, Any]:
        """The leader's part of `Facts`."""
        return {
            "released_by": {k: tuple(sorted(v)) for k, v in self._released.items()},
            "majority_at_ns": self._majority_at_ns,
            "fence_retry_at_ns": self._fence_retry_at_ns,
            "behind_ms": self.followers.behind_ms(),
            "fence_open_ms": {
                name: (self.e.now_ns - self._fence_seen_ns[n.fence.id]) // MS
                for name, n in self.e.state.nodes.items()
                if n.fence is not None and n.fence.id in self._fence_seen_ns
            },
        }

    def forget(self) -> None:
        """The lead was won or lost."""
        self._released.clear()
        self._majority_at_ns.clear()
        self.followers.forget()
        self.returns.forget()

    def step(self) -> None:
        open_orders = {n.fence.id for n in self.e.state.nodes.values() if n.fence is not None}
        self._fence_seen_ns = {i: self._fence_seen_ns.get(i, self.e.now_ns) for i in open_orders}
        self.followers.step()
        self._ask_release()

    def fence_news(self, command: c.FenceDone | c.Clear) -> None:
        """A round of attempts has failed: pause before the next. Or an operator wants it tried at once."""
        if isinstance(command, c.Clear):
            self._fence_retry_at_ns.clear()
            return
        ways = self.e.state.spec.fence_ways(command.target)
        attempts = self.e.state.node(command.target).fence_attempts
        if not command.ok and attempts and attempts % ways == 0:
            pause_ms = min(FENCE_RETRY_MS << min(attempts // ways - 1, 8), FENCE_RETRY_MS_MAX)
            self._fence_retry_at_ns[command.target] = self.e.now_ns + pause_ms * MS

    # ---- evidence that promises have run out -----------------------------------------------------------------------

    def count(self, voter: NodeName, answer: ReleaseAnswer) -> None:
        """A voter's yes is durable, so it holds for good."""
        if not answer.yes or not self.e.leading:
            return
        key = (answer.group, answer.epoch)
        self._released.setdefault(key, set()).add(voter)
        if len(self._released[key]) >= self.e.majority():
            self._majority_at_ns.setdefault(key, self.e.now_ns)

    def _ask_release(self) -> None:
        e = self.e
        waiting = [name for name in sorted(e.state.spec.groups) if expires(e.state, name)]
        if not waiting or (self._asked_ns is not None and e.now_ns - self._asked_ns < RELEASE_RETRY_MS * MS):
            return
        self._asked_ns = e.now_ns
        for name in waiting:
            request = ReleaseRequest(group=name, epoch=e.state.group(name).epoch)
            said_yes = self._released.get((name, request.epoch), set())  # for good; each yes costs a write to the disk
            for peer in e.members.peers:
                if peer not in said_yes:
                    e.emit(Send(peer, request))
            if e.me in said_yes:
                continue
            # This node's own answer: what follows from it is carried out only after the effect that makes it durable.
            for effect in e.release(e.me, request):
                if isinstance(effect, Send) and isinstance(effect.message, ReleaseAnswer):
                    self.count(e.me, effect.message)
                else:
                    e.emit(effect)

    # ---- who had better lead ---------------------------------------------------------------------------------------

    def hand_over(self) -> None:
        """Lead from a node that owns nothing and hears everybody, so that the loss of an owner costs no election."""
        e = self.e
        if e.now_ns - self._transfer_ns < TRANSFER_PAUSE_MS * MS:
            return
        better = self._better()
        if better is not None:
            self._transfer_ns = e.now_ns
            e.emit(Transfer(better))

    def _better(self) -> NodeName | None:
        e = self.e
        m, now, t = e.members, e.now_ns, e.timings
        deaf_to = e.missed()
        busy = any(g.owner == e.me for g in e.state.groups.values())
        for name in sorted(m.peers, key=lambda n: (not self._is_witness(n), n)):
            beat = m.peers[name].heartbeat
            if beat is None or name in deaf_to or not beat.ready or now < m.peers[name].excused_until_ns:
                continue
            owns = any(g.owner == name for g in e.state.groups.values())
            hears = any(beat.silent_ms.get(n, t.detection_ms) < t.detection_ms for n in deaf_to)
            if beat.applied + APPLIED_LAG_MAX < e.state.applied or (owns and not hears):
                continue
            if any(beat.silent_ms.get(n, 0) >= t.detection_ms for n in m.peers if n not in deaf_to):
                continue  # it would hand the lead back
            if busy or hears:
                return name
        return None

    def _is_witness(self, name: NodeName) -> bool:
        return name in self.e.state.spec.nodes and self.e.state.spec.nodes[name].witness
