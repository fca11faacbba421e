"""Whether a voter's word counts: what its peers know of it, and what it knows of them.

A journal that was put back to an older copy has forgotten votes and entries that its node has answered for, and nothing
in it tells. But the peers remember: of each other node the newest life they have listened to, and how far its journal
was. A life that is new to a peer is told what the peer knows (`Known`) and not listened to before it has answered. It
answers at once if its journal holds that. If not, it takes itself for a replaced disk first, durably: it follows, but
neither votes nor acknowledges nor leads before a majority has elected a leader without it.

So a new life asks all peers before it says anything that counts. It does not wait for ever, or no two nodes of three
could start while the third one is dead.
"""

from collections.abc import Callable, Iterable

import structlog

from hamail.consensus.codec import Answer, Envelope, Known, StepDown
from hamail.consensus.journal import NOTHING, Journal, Mark
from hamail.consensus.link import Link
from hamail.consensus.records import NONCE_BITS
from hamail.model.ids import NodeName

MS = 1_000_000  # ns
ASK_REPEAT_MS = 100
STEP_DOWN_REPEAT_MS = 1000
LIVES_LEAP_MAX = 2**20  # no node has lived so often since its journal was copied; a liar must not use up the numbers

log = structlog.get_logger(__name__)


class Standing:
    def __init__(
        self,
        journal: Journal,
        link: Link,
        peers: Iterable[NodeName],
        majority: int,
        ask_max_ms: int,
        stand_down: Callable[[], None],
    ) -> None:
        """`stand_down`: called when this node may lead no longer."""
        self._journal = journal
        self._link = link
        self._peers = tuple(peers)
        # So many peers include one of each majority that this node may have been part of.
        self._enough = len(self._peers) + 2 - majority
        self._ask_max_ns = ask_max_ms * MS
        self._stand_down = stand_down
        self._ask_until_ns: int | None = None  # None: before the first tick
        self._asked_ns: int | None = None
        self._asked_by: set[NodeName] = set()  # peers that have told this life what they know
        self._introduced: set[NodeName] = set()  # peers that were given an answer: they listen to this life
        self._strange: set[NodeName] = set()  # peers that have spoken in a life that is new
        self._seen = dict.fromkeys(self._peers, 0)  # sequence of the last payload, in the life that is known
        self._terms: dict[NodeName, int] = {}  # of peers, heard since the doubt
        self._step_down_asked_ns = 0
        self._settle()

    # ------------------------------------------------------------------ what peers say

    def admits(self, peer: NodeName, envelope: Envelope) -> bool:
        """Whether the payload is for the log. What is about lives is dealt with here."""
        strange = envelope.incarnation != self._journal.heard.get(peer, NOTHING)[0]
        match envelope.body:
            case Answer(incarnation, position):
                self._introduce(peer, (incarnation, position), envelope)
            case _ if strange:
                self._strange.add(peer)
            case _ if envelope.sequence <= self._seen[peer]:
                log.warning("late or doubled consensus payload dropped", peer=peer, sequence=envelope.sequence)
                return False
            case _:
                self._seen[peer] = envelope.sequence
                self._journal.hear(peer, (envelope.incarnation, envelope.position))
        if isinstance(envelope.body, Known):
            self._judge(peer, (envelope.body.incarnation, envelope.body.position))
        about_lives = isinstance(envelope.body, Known | Answer)
        if about_lives or not strange:
            self._terms[peer] = max(envelope.term, self._terms.get(peer, 0))
        return not about_lives and not strange

    def _introduce(self, peer: NodeName, told: Mark, envelope: Envelope) -> None:
        known = self._journal.heard.get(peer, NOTHING)
        if told == known and envelope.incarnation != known[0]:  # else it answers an older question
            self._seen[peer] = envelope.sequence
            self._journal.introduce(peer, (envelope.incarnation, envelope.position))

    def _judge(self, peer: NodeName, told: Mark) -> None:
        if not self._journal.holds(told):
            lives = self._journal.incarnation >> NONCE_BITS
            if told[0] >> NONCE_BITS > max(lives, self._journal.overruled) + LIVES_LEAP_MAX:
                log.warning("a peer tells of an impossible life of this node", peer=peer, told=told)
                return
            self._doubt(peer, told)
        self._asked_by.add(peer)
        self._settle()
        self._link.post(peer, Answer(*told))
        self._introduced.add(peer)

    def _doubt(self, peer: NodeName, told: Mark) -> None:
        if not self._journal.rejoining.pending:
            log.critical(
                "the journal on this disk is older than what a peer has heard of this node: it was put back to an "
                "old copy. As after the loss of a disk, this node does not vote before it has caught up",
                peer=peer,
                told=told,
                position=self._journal.position,
            )
        self._link.discard()  # what this tick has said so far
        self._journal.doubt(told)
        self._terms.clear()
        self._stand_down()

    def is_heard_by(self, peer: NodeName) -> bool:
        """Whether `peer` listens to what is posted from now on. What came before the answer, it has dropped."""
        return peer in self._introduced

    # ------------------------------------------------------------------ what is asked

    def tick(self, now_ns: int) -> None:
        if self._ask_until_ns is None:
            self._ask_until_ns = now_ns + self._ask_max_ns
            self._step_down_asked_ns = now_ns  # it may hear a leader soon
        if now_ns >= self._ask_until_ns:
            self._asked_by.update(self._peers)
        asked = set(self._strange)
        if self._unheard and (self._asked_ns is None or now_ns - self._asked_ns >= ASK_REPEAT_MS * MS):
            self._asked_ns = now_ns
            asked.update(self._unheard)
        for peer in sorted(asked):
            self._link.post(peer, Known(*self._journal.heard.get(peer, NOTHING)))
        self._strange.clear()
        self._compare_terms()
        self._settle()

    @property
    def _unheard(self) -> list[NodeName]:
        rejoining = self._journal.rejoining
        heard = self._terms if rejoining.pending and rejoining.above_term == 0 else self._asked_by
        return [peer for peer in self._peers if peer not in heard]

    @property
    def asks(self) -> bool:
        return bool(self._unheard)

    def _compare_terms(self) -> None:
        """Of a majority that has elected a leader by a vote that is forgotten, at least one is among enough peers."""
        rejoining = self._journal.rejoining
        if rejoining.pending and rejoining.above_term == 0 and len(self._terms) >= self._enough:
            self._journal.note_rejoining(max(self._journal.term, *self._terms.values()))

    def rejoin(self, now_ns: int, caught_up: int, leader: NodeName | None) -> None:
        """Vote again only under a leader that was elected after this node had lost its memory, and without it.

        It follows meanwhile, but its acknowledgements do not count. First it learns how high the terms are in which
        its forgotten votes may have helped. Once it has caught up with a leader it asks for an election; when it has
        applied an entry of a later term, every vote and entry that it may have forgotten is overruled, or known to the
        majority that elected that leader. `caught_up`: the term of the newest entry that is applied.
        """
        rejoining, term = self._journal.rejoining, self._journal.term
        if not rejoining.pending:
            return
        if rejoining.above_term and caught_up == term > rejoining.above_term:
            self._journal.end_rejoining()
            self._settle()
            log.info("this node has caught up after the loss of its memory and votes again")
            return
        ready = leader is None or (rejoining.above_term and caught_up == term)
        if ready and now_ns - self._step_down_asked_ns >= STEP_DOWN_REPEAT_MS * MS:
            self._step_down_asked_ns = now_ns
            for peer in [leader] if leader is not None else self._peers:
                self._link.post(peer, StepDown(term))

    def _settle(self) -> None:
        rejoining = self._journal.rejoining.pending
        self._link.mute = rejoining or any(peer not in self._asked_by for peer in self._peers)
