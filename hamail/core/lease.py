"""The lease protocol: majority promises outside the log. Stated once, here.

An owner asks every voter, itself included: promise nobody else for W from your receipt. A lease runs until L after it
*sent* the newest request that a majority has answered, each of them that one or a later one: an answer that is slower
than the next request still counts. To take a group over without a fence, a coordinator
asks the voters whether their promise has run out; each yes is made durable before it is said, and a voter that said
yes to an epoch never promises that epoch again. A renewal majority and a release majority share a voter, so no
renewal can succeed after a release, whoever leads the log.

Times are CLOCK_BOOTTIME nanoseconds of the machine that does the counting; no foreign clock is ever compared.
"""

import msgspec
from msgspec import Struct

from hamail.core.proof import HELD, expires
from hamail.model.ids import Epoch, GroupName, NodeName
from hamail.model.messages import LeaseAnswer, LeaseRequest, ReleaseAnswer, ReleaseRequest
from hamail.model.state import ClusterState
from hamail.model.timings import Timings

MS = 1_000_000
RENEWALS_PER_LEASE = 8
REQUESTS_KEPT = 2 * RENEWALS_PER_LEASE  # answers to older ones say nothing any more
FIRST_RETRY_MS = 50  # voters may learn of a grant a moment after its owner: ask for the first lease more often
WAIT_MS_MAX = 600_000


class Asked(Struct, frozen=True):
    """A request for promises."""

    nonce: int  # when it was about to be sent
    lease_ms: int  # the lease that it carries: its promises last for no longer one


class Ownership(Struct, frozen=True, kw_only=True):
    """The owner's side of one epoch."""

    group: GroupName
    epoch: Epoch
    since_ns: int = 0  # when this node began to ask
    tries: int = 0  # requests so far
    asked: tuple[Asked, ...] = ()  # the newest last
    promised: dict[NodeName, int] = {}  # the nonce of the newest request that each voter has answered with yes
    upheld_ns: int = -1  # a majority has promised this request or a later one
    until_ns: int = 0  # the lease ends here; 0 = none yet


def due(o: Ownership, now_ns: int, t: Timings) -> bool:
    """Is it time for the next request?"""
    return not o.asked or now_ns - o.asked[-1].nonce >= pause_ms(o, t) * MS


def pause_ms(o: Ownership, t: Timings) -> int:
    """Between the newest request and the next one."""
    # A lease from before `detection` grew is short.
    renew_ms = min(t.renew_ms, o.asked[-1].lease_ms // RENEWALS_PER_LEASE)
    return renew_ms if o.until_ns else min(renew_ms, FIRST_RETRY_MS << min(o.tries - 1, 8))


def ask(o: Ownership, now_ns: int, t: Timings) -> tuple[Ownership, LeaseRequest]:
    """The next request; `now_ns` must be read before it is sent.

    The nonce is that time: whichever request of this boot an answer belongs to, of this life of hamaild or of one
    before, its promise was made after the nonce, so a lease counted from the nonce is safe.
    """
    asked = (*o.asked, Asked(now_ns, t.lease_ms))[-REQUESTS_KEPT:]
    o = msgspec.structs.replace(o, tries=o.tries + 1, asked=asked)
    return o, LeaseRequest(group=o.group, epoch=o.epoch, nonce=now_ns, wait_ms=t.wait_ms)


def receive(o: Ownership, voter: NodeName, answer: LeaseAnswer, majority: int, t: Timings) -> Ownership:
    """Count a promise. The lease moves when one more request is upheld by a majority.

    Whoever promised a later request promised no less: its promise began later, and lasts for at least as long as the
    shortest lease asked for since. `detection` may have changed meanwhile, hence the shortest.
    """
    if answer.epoch != o.epoch or not answer.promised or answer.nonce not in {r.nonce for r in o.asked}:
        return o
    promised = {**o.promised, voter: max(answer.nonce, o.promised.get(voter, -1))}
    o = msgspec.structs.replace(o, promised=promised)
    upheld = sorted(promised.values(), reverse=True)[majority - 1] if len(promised) >= majority else -1
    leases_ms = [r.lease_ms for r in o.asked if r.nonce >= upheld]
    if upheld <= o.upheld_ns or upheld < o.asked[0].nonce:
        return o
    until_ns = max(o.until_ns, upheld + min(*leases_ms, t.lease_ms) * MS)
    return msgspec.structs.replace(o, upheld_ns=upheld, until_ns=until_ns)


def alive(o: Ownership, now_ns: int) -> bool:
    return now_ns < o.until_ns


class Voter(Struct, frozen=True, kw_only=True):
    """What a voter has promised. Promises are volatile; `barred` is on disk."""

    started_ns: int
    past_barrier: bool = False  # has applied an entry that was committed after its own start
    promises: dict[GroupName, tuple[Epoch, int]] = {}  # group -> (epoch, until_ns)
    barred: dict[GroupName, Epoch] = {}  # never promise this epoch or an older one again


def consider(
    voter: Voter, state: ClusterState, sender: NodeName, request: LeaseRequest, now_ns: int, t: Timings
) -> tuple[Voter, LeaseAnswer]:
    """Promise, or say why not."""

    def no(why: str) -> tuple[Voter, LeaseAnswer]:
        return voter, LeaseAnswer(
            group=request.group, epoch=request.epoch, nonce=request.nonce, promised=False, why=why
        )

    group = state.group(request.group)
    if not voter.past_barrier:
        return no("this voter has just started and does not know yet what was decided meanwhile")
    if group.epoch != request.epoch or group.owner != sender:
        return no(f"epoch {request.epoch} of {request.group} is not {sender}'s here (the epoch is {group.epoch})")
    if group.phase not in HELD:
        return no(f"{request.group} is being taken from {sender} ({group.phase})")
    if voter.barred.get(request.group, 0) >= request.epoch:
        return no(f"this voter has declared epoch {request.epoch} of {request.group} to be over")
    wait_ms = max(t.wait_ms, min(request.wait_ms, WAIT_MS_MAX))
    until_ns = max(now_ns + wait_ms * MS, _promised_until(voter, request.group, request.epoch))
    promises = {**voter.promises, request.group: (request.epoch, until_ns)}
    answer = LeaseAnswer(group=request.group, epoch=request.epoch, nonce=request.nonce, promised=True)
    return msgspec.structs.replace(voter, promises=promises), answer


def _promised_until(voter: Voter, group: GroupName, epoch: Epoch) -> int:
    promised, until_ns = voter.promises.get(group, (0, 0))
    return until_ns if promised == epoch else 0


def release(
    voter: Voter, state: ClusterState, request: ReleaseRequest, now_ns: int, hold_ms: int
) -> tuple[Voter, ReleaseAnswer]:
    """Has this voter's promise run out? A yes bars the epoch: make `barred` durable before the answer is sent.

    `hold_ms`: the longest W that was ever in force.
    """

    def no(remaining_ns: int) -> tuple[Voter, ReleaseAnswer]:
        remaining_ms = max(1, -(-remaining_ns // MS))
        return voter, ReleaseAnswer(group=request.group, epoch=request.epoch, yes=False, remaining_ms=remaining_ms)

    group = state.group(request.group)
    if not voter.past_barrier or group.epoch != request.epoch or not expires(state, request.group):
        return no(hold_ms * MS)
    # A restarted voter has forgotten its promises: all of them have run out only one full wait after its start.
    hold_ns = voter.started_ns + hold_ms * MS - now_ns
    promise_ns = _promised_until(voter, request.group, request.epoch) - now_ns
    if max(hold_ns, promise_ns) > 0:
        return no(max(hold_ns, promise_ns))
    barred = {**voter.barred, request.group: max(request.epoch, voter.barred.get(request.group, 0))}
    answer = ReleaseAnswer(group=request.group, epoch=request.epoch, yes=True)
    return msgspec.structs.replace(voter, barred=barred), answer
