"""Somebody with evil intent inside of a simulated cluster that runs the real log.

`Witness` sits in the place of n3: its own certificate, all that n3 hears and knows, beside the honest hamaild there. It
says anything in hamail's own messages, hands any command to the leader, repeats and shuffles what it has heard and
sent, and disturbs elections. It keeps to two rules; what breaks them is a matter of trust in a voter (see the tests at
the end of `test_hostile`): it does not lie to Raft about what its own journal holds and whom it voted for, and it does
not write the log itself while it leads it.

`Outsider` has no place in the cluster: its certificate, if it has one, names no member. It may say everything.
"""

import random
from typing import Any

from msgspec.structs import replace

from hamail.consensus.codec import (
    Ack,
    Append,
    Body,
    Chunk,
    Envelope,
    Forward,
    NotLeader,
    PreVote,
    PreVoteAnswer,
    Proposal,
    RequestVote,
    StepDown,
    TimeoutNow,
    Vote,
    encode_command,
    encode_envelope,
)
from hamail.model import commands as c
from hamail.model.ids import NodeName
from hamail.model.messages import AnyMessage, Heartbeat, LeaseAnswer, LeaseRequest, Raft, ReleaseAnswer, ReleaseRequest
from hamail.model.spec import Requirement
from hamail.model.state import Evidence, Incarnation
from hamail.simulation.world import World

PAUSES_MS = (2, 10, 40, 200)
HEARD_MAX = 400


class Attacker:
    def __init__(self, world: World, seed: int, name: NodeName) -> None:
        self.world = world
        self.name = name
        self.said = 0
        self._rng = random.Random(seed)
        self._heard: list[tuple[NodeName, NodeName, AnyMessage]] = []
        self._nonces: list[int] = []
        self._listen()

    def begin(self) -> None:
        self.world.agenda.after_ms(self._rng.choice(PAUSES_MS), self._act)

    def _listen(self) -> None:
        send = self.world.network.send

        def heard(sender: NodeName, receiver: NodeName, message: AnyMessage) -> bool:
            if self._overhears(sender, receiver):
                self._heard = [*self._heard[-HEARD_MAX:], (sender, receiver, message)]
                if isinstance(message, LeaseRequest):
                    self._nonces = [*self._nonces[-20:], message.nonce]
            return send(sender, receiver, message)

        self._send = send
        self.world.network.send = heard  # type: ignore[method-assign]

    def _overhears(self, sender: NodeName, receiver: NodeName) -> bool:
        return self.name in (sender, receiver)

    def _act(self) -> None:
        if not self.world.peace:
            for _ in range(self._rng.choice((1, 1, 3))):
                self.said += 1
                self._rng.choice(self._ways())()
        self.world.agenda.after_ms(self._rng.choice(PAUSES_MS), self._act)

    def _ways(self) -> list[Any]:
        return [self._message, self._command, self._raft, self._replay, self._garbage]

    def _tell(self, to: NodeName, message: AnyMessage) -> None:
        self._send(self.name, to, message)

    def _target(self) -> NodeName:
        return self._rng.choice([n for n in self.world.machines if n != self.name])

    # ---- hamail's own messages --------------------------------------------------------------------------------------

    def _message(self) -> None:
        rng, g = self._rng, self.world.state.group("mail")
        epoch = rng.choice((g.epoch, g.epoch, g.epoch + 1, 0, 2**40))
        nonce = rng.choice(self._nonces or [0]) + rng.choice((0, 0, 1))
        beat = Heartbeat(
            sequence=rng.randrange(10**6),
            incarnation=rng.choice((None, self._life("n1"), Incarnation("other", "other"))),
            silent_ms={n: rng.choice((0, 10**6, 2**50, -5)) for n in self.world.machines},
            applied=rng.choice((0, self.world.state.applied, 2**50)),
            ready=rng.random() < 0.8,
            restarting_ms=rng.choice((0, 0, 10**6)),
            watchdog_armed=rng.random() < 0.5,
            fence_ready={"pdu": "", "nothing": "x"},
            resources={"mail": {"store": "up"}},
            detail=rng.choice(("", "\x1b[2J")),
        )
        self._tell(
            self._target(),
            rng.choice(
                (
                    beat,
                    LeaseRequest(group="mail", epoch=epoch, nonce=nonce, wait_ms=rng.choice((0, 10**9))),
                    LeaseAnswer(group="mail", epoch=epoch, nonce=nonce, promised=True),
                    LeaseAnswer(group="mail", epoch=epoch, nonce=nonce, promised=False, why="no"),
                    ReleaseRequest(group="mail", epoch=epoch),
                    ReleaseAnswer(group="mail", epoch=epoch, yes=True),
                    ReleaseAnswer(group="mail", epoch=epoch, yes=False, remaining_ms=2**40),
                )
            ),
        )

    def _life(self, node: NodeName) -> Incarnation | None:
        return self.world.state.node(node).incarnation

    # ---- commands for the log ---------------------------------------------------------------------------------------

    def _command(self) -> None:
        leader = self.world.log.leader
        if leader is not None and leader != self.name:
            self._say(leader, self._forward())

    def _forward(self) -> Forward:
        number = self._rng.randrange(1, 10**6)
        proposer = self._rng.choice((self.name, self.name, *self.world.machines))
        return Forward(number, encode_command(Proposal(proposer, self._rng.randrange(3), number, self._forged())))

    def _forged(self) -> c.AnyCommand:
        """What would set a group free, take it away or weaken its protection, with everything else about it right."""
        rng, state = self._rng, self.world.state
        g = state.group("mail")
        about = g.owner or "n1"
        node, epoch = rng.choice((about, about, "n1", "n2")), g.epoch
        other = next(n for n in ("n1", "n2") if n != about)
        known = state.node(about)
        order = known.fence.id if known.fence else 0
        after = max(state.node(node).joined_at, state.node(node).fenced_at)
        at_ms = self.world.wall_ms
        return rng.choice(
            (
                c.Released(at_ms=at_ms, group="mail", node=node, epoch=epoch),
                c.Join(at_ms=at_ms, node=node, incarnation=Incarnation("forged", str(rng.random())), after=after),
                c.FenceDone(at_ms=at_ms, target=about, order=order, ok=True, detail=""),
                c.FenceConfirmed(at_ms=at_ms, target=about, actor="root", reason="it is off"),
                c.StartFailed(
                    at_ms=at_ms, group="mail", node=node, epoch=epoch, resource="store", clean=True, detail=""
                ),
                c.StopFailed(at_ms=at_ms, group="mail", node=node, epoch=epoch, resource="store", detail=""),
                c.Failed(at_ms=at_ms, group="mail", node=node, epoch=epoch, resource="store", detail=""),
                c.Started(at_ms=at_ms, group="mail", node=node, epoch=epoch),
                c.Grant(
                    at_ms=at_ms,
                    group="mail",
                    node=other,
                    expected_epoch=epoch,
                    evidence=Evidence.EXPIRED,
                    voters=("n1", "n2", "n3"),
                ),
                c.OwnerLost(
                    at_ms=at_ms, group="mail", node=about, epoch=epoch, silent_ms=9999, voters=("n1", "n2", "n3")
                ),
                c.OwnerBack(at_ms=at_ms, group="mail", node=about, epoch=epoch),
                c.OrderFence(at_ms=at_ms, target=about, device="pdu", by=other),
                c.AckMaintenance(at_ms=at_ms, node=node, on=rng.random() < 0.5, since=state.maintenance.since),
                c.Retry(at_ms=at_ms, group="mail", expected_epoch=epoch),
                self._weaker(at_ms),
                # An operator may give these on any node. They are a nuisance, not a danger.
                c.RequestMove(at_ms=at_ms, group="mail", target=other, expected_epoch=epoch),
                c.RequestFence(at_ms=at_ms, target=about),
                c.SetStandby(at_ms=at_ms, node=node, standby=rng.random() < 0.2),
                c.SetMaintenance(at_ms=at_ms, on=rng.random() < 0.1),
                c.Clear(at_ms=at_ms, group="mail"),
            )
        )

    def _weaker(self, at_ms: int) -> c.ApplyConfig:
        state = self.world.state
        groups = {n: replace(g, requires=Requirement.LEASE, unsafe_reason="x") for n, g in state.spec.groups.items()}
        spec = replace(state.spec, groups=groups, detection_ms=self._rng.choice((state.spec.detection_ms, 0, -1)))
        return c.ApplyConfig(at_ms=at_ms, spec=spec, source="", expected_revision=state.config.revision)

    # ---- the log's own messages -------------------------------------------------------------------------------------

    def _raft(self) -> None:
        self._say(self._target(), self._body())

    def _body(self) -> Body:
        """Disturbs elections and replication without a lie about this node's own journal or vote."""
        rng, term = self._rng, self._term()
        some_term = rng.choice((term, term + 1, max(0, term - 1), term + 5, 2**62))
        return rng.choice(
            (
                PreVote(rng.randrange(50), some_term, 0, 0),
                PreVoteAnswer(rng.randrange(50), rng.random() < 0.5),
                RequestVote(some_term, 0, 0),
                TimeoutNow(some_term),
                StepDown(some_term),
                NotLeader(rng.randrange(200)),
                Ack(1, True, False),
            )
        )

    def _term(self) -> int:
        return max(m.daemon.seat.term for m in self.world.machines.values() if m.daemon is not None) if any(
            m.daemon for m in self.world.machines.values()
        ) else 0  # fmt: skip

    def _say(self, to: NodeName, body: Body) -> None:
        """With a stamp that is accepted."""
        raise NotImplementedError

    # ---- what was said before, and nonsense -------------------------------------------------------------------------

    def _replay(self) -> None:
        if self._heard:
            _, _, message = self._rng.choice(self._heard)
            self._tell(self._target(), message)

    def _garbage(self) -> None:
        rng = self._rng
        self._tell(self._target(), Raft(payload=rng.randbytes(rng.choice((0, 5, 300)))))
        if rng.random() < 0.05:
            self._tell(self._target(), Raft(payload=bytes(600_000)))


class Witness(Attacker):
    def __init__(self, world: World, seed: int) -> None:
        super().__init__(world, seed, "n3")

    def _say(self, to: NodeName, body: Body) -> None:
        """In the stream of the honest hamaild, which so goes on with the next stamp."""
        daemon = self.world.machines[self.name].daemon
        consensus = daemon.seat._consensus if daemon is not None else None
        if consensus is not None and not consensus.health().problem:
            link = consensus._link
            link._sequence[to] += 1
            life, position = link._journal.incarnation, link._journal.position
            stamp = Envelope(life, position, link._sequence[to], self._claimed_term(consensus, body), body)
            self._tell(to, Raft(payload=encode_envelope(stamp)))

    def _claimed_term(self, consensus: Any, body: Body) -> int:
        return getattr(body, "term", consensus._journal.term)

    def _replay(self) -> None:
        """What others have said keeps its stamps; whoever gets it sees a stamp of n3. Votes would be lies: left out."""
        if self._heard:
            _, _, message = self._rng.choice(self._heard)
            own = [m for s, _, m in self._heard if s == self.name]
            if not isinstance(message, Raft) or message in own:
                self._tell(self._target(), message)


class Outsider(Attacker):
    def __init__(self, world: World, seed: int) -> None:
        super().__init__(world, seed, "n9")
        self._sequence = 0

    def _overhears(self, sender: NodeName, receiver: NodeName) -> bool:
        return True  # as if the cipher were broken

    def _body(self) -> Body:
        term = self._term() + 1
        released = encode_command(
            Proposal(
                "n1", 1, 1, c.Released(at_ms=0, group="mail", node="n1", epoch=self.world.state.group("mail").epoch)
            )
        )
        lies: tuple[Body, ...] = (
            Vote(term - 1),
            RequestVote(term, 2**40, term - 1),
            Append(term, 2**40, 0, 0, []),
            Chunk(term, b"x", 0, True),
            Ack(self.world.state.applied + 1, False, True),
            Forward(1, released),
        )
        return self._rng.choice((super()._body(), *lies))

    def _say(self, to: NodeName, body: Body) -> None:
        self._sequence += 1
        self._tell(to, Raft(payload=encode_envelope(Envelope(10**6, 10**6, self._sequence, self._term(), body))))
