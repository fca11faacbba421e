"""When to ask for an election: a failure detector of the leader, and the PreVote that must succeed first.

PreVote keeps a node that was cut off or paused from deposing a healthy leader when it comes back: it first asks whether
a majority would vote for it, which changes nothing on either side. Pure: time and dice come in.
"""

from random import Random

from hamail.model.ids import NodeName

MS = 1_000_000  # ns


class Election:
    def __init__(self, node: NodeName, majority: int, min_ms: int, max_ms: int, rng: Random) -> None:
        assert 0 < min_ms < max_ms
        self._node = node
        self._majority = majority
        self._min_ns = min_ms * MS
        self._max_ns = max_ms * MS
        self._rng = rng
        self._deadline_ns = 0
        self._heard_ns: int | None = None
        self._round = 0
        self._opened_ns: int | None = None
        self._granted: set[NodeName] | None = None  # None: no round is open

    @property
    def heard_ns(self) -> int | None:
        return self._heard_ns

    def postpone(self, now_ns: int) -> None:
        """A new full timeout: something is under way that deserves it (a vote given, a campaign begun)."""
        self._deadline_ns = now_ns + self._rng.randint(self._min_ns, self._max_ns)
        self._granted = None

    def hear(self, now_ns: int) -> None:
        """The leader of the current term was heard (or is this node)."""
        self._heard_ns = now_ns
        self.postpone(now_ns)

    def stall(self, now_ns: int) -> None:
        """This process did not run for a while: what the leader said meanwhile may still wait in a socket."""
        self._deadline_ns = max(self._deadline_ns, now_ns + self._min_ns)

    def give_way(self, now_ns: int) -> None:
        """A peer was told to go ahead: do not stand against it before it can have won."""
        self._deadline_ns = max(self._deadline_ns, now_ns + self._min_ns // 2)

    def insists(self, peer: NodeName, now_ns: int) -> bool:
        """Two nodes that ask at the same moment would split the votes: for a moment the first by name goes first."""
        asked_just_now = self._opened_ns is not None and now_ns - self._opened_ns < self._min_ns // 3
        return asked_just_now and self._granted is not None and self._node < peer

    def hurry(self, now_ns: int) -> None:
        """There is surely no leader: ask at once."""
        self._heard_ns = None
        self._deadline_ns = now_ns

    def due(self, now_ns: int) -> bool:
        return now_ns >= self._deadline_ns

    def leader_is_fresh(self, now_ns: int) -> bool:
        return self._heard_ns is not None and now_ns - self._heard_ns < self._min_ns

    def open_round(self, now_ns: int) -> int:
        """Begin a PreVote; returns its number. This node is for itself."""
        self.postpone(now_ns)
        self._round += 1
        self._opened_ns = now_ns
        self._granted = {self._node}
        return self._round

    @property
    def round_is_open(self) -> bool:
        return self._granted is not None

    def answer(self, peer: NodeName, number: int, granted: bool) -> None:
        if granted and number == self._round and self._granted is not None:
            self._granted.add(peer)

    def won(self) -> bool:
        return self._granted is not None and len(self._granted) >= self._majority
