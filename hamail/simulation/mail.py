"""Mail clients: they send and read through the floating address all the time, and remember what they were told.

A mail is acknowledged only after fsync, as Postfix does it: one beat writes it into the queue, the next one syncs and
says 250, the one after delivers it to the mailbox. A client whose connection breaks in between does not know, and sends
the mail again. Every fourth mail is appended by IMAP, which tells its UID.
"""

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

from hamail.executor.kinds import Kind
from hamail.model.ids import GroupName, NodeName
from hamail.simulation.storage import DAMAGED, Mount, StorageError

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine
    from hamail.simulation.world import World

EVERY_MS = 200
APPEND_EVERY = 4
HANG_BEATS_MAX = 25  # a client gives up after so long without an answer


class Verdict(Struct, kw_only=True):
    """What an audit has found; each list names mails."""

    acknowledged: int = 0
    lost: list[int] = []
    corrupt: list[int] = []
    phantom: list[int] = []
    wrong_uid: list[int] = []
    duplicate: int = 0
    recovered: int = 0  # the client did not know, and they are there
    resurrected: int = 0  # the client was told that it had failed, and they are there
    unread: bool = False  # nobody could be asked

    @property
    def words(self) -> str:
        """What is wrong; empty when nothing is."""
        named = {"lost": self.lost, "corrupt": self.corrupt, "phantom": self.phantom, "uid reused": self.wrong_uid}
        return ", ".join(f"{len(which)} {what}: {which[:5]}" for what, which in named.items() if which)


class Clients:
    """Of one group. `begin` once; `audit` when all is well again."""

    def __init__(self, world: "World", group: GroupName, every_ms: int = EVERY_MS) -> None:
        self._w = world
        self._every_ms = every_ms
        self.group = group
        self.ok: dict[int, int] = {}  # mail -> UID that the client was told, 0: none
        self.failed: set[int] = set()
        self.unknown: set[int] = set()
        self.acknowledged = 0  # ever
        self.longest_gap_ms = 0.0
        self._last_ok_ms: float | None = None
        self._next = 1
        self._under_way: tuple[int, int] | None = None  # (mail, UID): written, not acknowledged yet
        self._waited = 0
        self._server: tuple[Mount, int] | None = None  # whom the open connection leads to: mount and life of postfix
        self._delivered: dict[int, int] = {}  # by the server of this connection: mail -> UID
        self._stopped = False

    def begin(self) -> None:
        self._w.agenda.after_ms(self._every_ms, self._beat)

    def stop(self) -> None:
        """No new mail; what is under way is brought to its end."""
        self._stopped = True

    # ---- sending ------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        server = self._find_server()
        if self._server is not None and server != self._server:
            self._broken()
        self._server = server
        if server is not None:
            self._talk(server[0])
        if not self._stopped or self._delivered or self._under_way is not None:
            self._w.agenda.after_ms(self._every_ms, self._beat)

    def _find_server(self) -> tuple[Mount, int] | None:
        """Where the address leads, if somebody answers there who has the mail store."""
        world = self._w
        holders = [n for n, m in world.machines.items() if m.powered and self._has(m, Kind.ADDRESS)]
        node = world.switch.resolve(self.group, holders, world.now_ns / 1e6)
        if node not in holders or world.machines[node].paused:
            return None
        return self._serving(world.machines[node])

    def _has(self, machine: "Machine", kind: Kind) -> bool:
        return any(t.kind is kind for t in machine.premises.of(self.group).values())

    def _serving(self, machine: "Machine") -> tuple[Mount, int] | None:
        things = machine.premises.of(self.group)
        services = [t for t in things.values() if t.kind is Kind.SERVICE]
        mount = next((t.mount for t in things.values() if t.mount is not None), None)
        if mount is None or not services or not all(t.ready for t in services):
            return None
        return mount, id(services[0])

    def _broken(self) -> None:
        """The connection is lost after the final dot: whether the mail was taken is unknown."""
        if self._under_way is not None:
            self.unknown.add(self._under_way[0])
            self._under_way = None
        self._waited = 0
        self._delivered.clear()

    def _talk(self, mount: Mount) -> None:
        if mount.hangs:
            self._waited += 1
            if self._waited > HANG_BEATS_MAX:
                self._broken()
            return
        try:
            mount.sync()
        except StorageError:
            self._refused()
            return
        self._acknowledge()
        self._deliver(mount)
        if not self._stopped:
            self._send(mount)

    def _refused(self) -> None:
        if self._under_way is not None:
            self.failed.add(self._under_way[0])
            self._under_way = None

    def _acknowledge(self) -> None:
        """Everything that was written before is on the disk now."""
        if self._under_way is None:
            return
        mail, uid = self._under_way
        self._under_way = None
        self.ok[mail] = uid
        self.unknown.discard(mail)
        self.acknowledged += 1
        now_ms = self._w.now_ns / 1e6
        if self._last_ok_ms is not None:
            self.longest_gap_ms = max(self.longest_gap_ms, now_ms - self._last_ok_ms)
        self._last_ok_ms = now_ms

    def _deliver(self, mount: Mount) -> None:
        """What is in the queue goes to the mailbox; it leaves the queue only when it is safe there."""
        queue = _queue(mount)
        if not queue:
            return
        left = []
        try:
            for mail in queue:
                if mount.read(("queue", mail)) is None:
                    continue
                if mail in self._delivered:  # it was synced a beat ago
                    mount.write(("queue", mail), None)
                    del self._delivered[mail]
                else:
                    self._delivered[mail] = self._store(mount, mail, mount.read(("queue", mail)))
                    left.append(mail)
            mount.write("queue", tuple(left))
        except StorageError:
            return

    def _store(self, mount: Mount, mail: int, text: object) -> int:
        """Into the mailbox. Returns its UID."""
        uid = mount.read("uidnext")
        uid = uid if isinstance(uid, int) else 1
        mount.write(("box", uid), (mail, text))
        mount.write("uidnext", uid + 1)
        return uid

    def _send(self, mount: Mount) -> None:
        retry = min(self.unknown, default=0)
        mail = retry or self._next
        if not retry:
            self._next += 1
        uid = 0
        try:
            if mail % APPEND_EVERY == 0:
                uid = self._store(mount, mail, body(mail))
            else:
                mount.write(("queue", mail), body(mail))
                mount.write("queue", (*_queue(mount), mail))
        except StorageError:
            self.failed.add(mail)
            return
        self._under_way = (mail, uid)

    # ---- the oracle ---------------------------------------------------------------------------------------------

    def audit(self, node: NodeName) -> Verdict:
        """Read everything on the active node, mailbox and queue; what was well is forgotten."""
        mount = next((t.mount for t in self._w.machines[node].premises.of(self.group).values() if t.mount), None)
        verdict = Verdict(acknowledged=len(self.ok))
        if mount is None:
            verdict.unread = True
            return verdict
        found: Counter[int] = Counter()
        uids: dict[int, int] = {}
        for key, value in mount.view().items():
            if isinstance(key, tuple):
                self._judge(key, value, found, uids, verdict)
        for mail, uid in self.ok.items():
            if not found[mail]:
                verdict.lost.append(mail)
            elif uid and uids.get(uid) != mail:
                verdict.wrong_uid.append(mail)
        verdict.duplicate = sum(n - 1 for n in found.values() if n > 1)
        verdict.recovered = sum(1 for m in self.unknown if found[m])
        verdict.resurrected = sum(1 for m in self.failed - self.ok.keys() if found[m])
        return verdict

    def _judge(
        self, key: tuple[object, ...], value: object, found: Counter[int], uids: dict[int, int], verdict: Verdict
    ) -> None:
        where, number = key
        assert isinstance(number, int)
        if where == "box":
            mail, text = value if isinstance(value, tuple) else (0, DAMAGED)
            uids[number] = mail
        elif where == "queue":
            mail, text = number, value
        else:
            return
        if text != body(mail):
            verdict.corrupt.append(mail)
        elif not 0 < mail < self._next:
            verdict.phantom.append(mail)
        else:
            found[mail] += 1

    def forget(self) -> None:
        """After an audit: the users have read and deleted all of it."""
        lun = self._w.lun(self.group)
        kept = {"queue": (), "uidnext": lun.durable.get("uidnext", 1)}
        for mount in lun.mounts.values():
            kept["uidnext"] = mount.read("uidnext") or 1
            mount.dirty.clear()
            mount.written.clear()
        lun.durable.clear()
        lun.durable.update(kept)
        self.ok.clear()
        self.failed.clear()
        self.unknown.clear()
        self._under_way = None


def _queue(mount: Mount) -> tuple[int, ...]:
    """Names of the files in the queue's folder."""
    found = mount.read("queue")
    return found if isinstance(found, tuple) else ()


def body(mail: int) -> int:
    """Stands for what is written in it."""
    return mail * 2_654_435_761 % 4_294_967_296
