"""The other end of the executor's socket: honest, silent, hung, restarted, gone, or in the hands of an attacker."""

import asyncio
import struct

import msgspec

from hamail.executor.wire import _notices, encode
from hamail.model import actions as a
from hamail.model.spec import GroupSpec, ResourceSpec
from hamail.model.state import Evidence

TICK_S = 0.5
RECONNECT_S = 0.3
PAST_KEPT_MAX = 60


class _Peer:
    def __init__(self, uid):
        self._uid = uid

    def getsockopt(self, *_arguments):
        return struct.pack("=iII", 4711, self._uid, self._uid)


class Writer:
    """What the executor writes to: bytes arrive at the actor, unless it does not read."""

    def __init__(self, actor, uid):
        self._actor = actor
        self._peer = _Peer(uid)
        self.transport = self
        self.closed = False
        self.unread = 0
        self.data = bytearray()

    def write(self, data):
        if self.closed:
            return
        if self._actor.reads:
            self.data += data
            self._actor.arrived(self)
        else:
            self.unread += len(data)

    def get_write_buffer_size(self):
        return self.unread

    def get_extra_info(self, _name):
        return self._peer

    def is_closing(self):
        return self.closed

    def close(self):
        if not self.closed:
            self.closed = True
            self._actor.dropped(self)

    abort = close

    async def wait_closed(self):
        return


class Hamaild:
    def __init__(self, world):
        self.w = world
        self.mode = "honest"
        self.reads = True
        self.writer = None
        self.reader = None
        self._id = 0
        self._unanswered = {}
        self._past = []
        self._order = 0
        self.epoch = 0
        self.groups = {}  # group -> (state, epoch)
        self.clean = False
        self.maintenance = False
        self._asked_clean_s = -100.0
        self.wanted = True  # groups shall run
        world.agenda.after(0.1, self._tick)

    # -- the connection --------------------------------------------------------------------------------------------

    def connect(self, *, uid=0, greet=True):
        if self.w.server is None or self.w.loop is None:
            return
        self.hang_up()
        self.reader = asyncio.StreamReader(loop=self.w.loop)
        self.writer = Writer(self, uid)
        self._unanswered = {}
        self.w.loop.create_task(self.w.server._connected(self.reader, self.writer))
        if greet:
            self.send(a.Hello(id=0, version="1"))

    def hang_up(self):
        writer, reader = self.writer, self.reader
        self.writer = self.reader = None
        if writer is not None and not writer.closed:
            writer.closed = True
            if self.w.loop is not None and self.w.loop.buried_s is None:
                reader.feed_eof()
        self._unanswered = {}

    def dropped(self, writer):
        if writer is self.writer:
            self.writer = self.reader = None
            self._unanswered = {}

    def executor_gone(self):
        self.writer = self.reader = None
        self._unanswered = {}
        self.clean = False

    def send(self, request):
        if self.writer is None or self.writer.closed:
            return
        if not isinstance(request, a.Hello):
            self._unanswered[request.id] = self._unanswered.get(request.id, 0) + 1
            self._past = [*self._past[-PAST_KEPT_MAX:], request]
        self.reader.feed_data(encode(request))

    def ask(self, kind, **fields):
        self._id += 1
        self.send(kind(id=self._id, **fields))

    def arrived(self, writer):
        while len(writer.data) >= 4:
            size = int.from_bytes(writer.data[:4], "big")
            if len(writer.data) < 4 + size:
                return
            body = bytes(writer.data[4 : 4 + size])
            del writer.data[: 4 + size]
            if writer is self.writer:
                self._hear(_notices.decode(body))

    def _hear(self, notice):
        match notice:
            case a.Accepted() | a.Refused():
                left = self._unanswered.get(notice.id, 0) - 1
                if left < 0:
                    self.w.judge.fail(f"request {notice.id} is answered once too often")
                if left:
                    self._unanswered[notice.id] = left
                else:
                    del self._unanswered[notice.id]
            case a.Welcome():
                self.clean, self.maintenance = notice.clean, notice.maintenance
                self.groups = {g: (s.state, s.epoch) for g, s in notice.groups.items()}
                self._configure()
            case a.Cleaned():
                self.clean = notice.ok
            case a.GroupUp():
                self.groups[notice.group] = ("up", notice.epoch)
            case a.GroupDown():
                self.groups.pop(notice.group, None)
            case a.GroupStartFailed():
                if notice.clean:
                    self.groups.pop(notice.group, None)
                else:
                    self.groups[notice.group] = ("stop_failed", notice.epoch)
            case a.GroupStopFailed():
                self.groups[notice.group] = ("stop_failed", notice.epoch)
            case a.ResourceFailed():
                if self.mode == "honest" and not self.maintenance and self.w.rng.random() < 0.7:
                    state, epoch = self.groups.get(notice.group, ("", 0))
                    if state == "up":
                        self.ask(a.RestartResource, group=notice.group, epoch=epoch, resource=notice.resource)

    def all_requests_answered(self):
        if self._unanswered and self.writer is not None:
            self.w.judge.fail(f"requests without an answer: {self._unanswered}")

    # -- what it does ----------------------------------------------------------------------------------------------

    def _tick(self):
        self.w.agenda.after(TICK_S, self._tick)
        if self.mode == "gone":
            self.hang_up()
            return
        if self.writer is None and self.mode in ("honest", "hostile"):
            self.groups, self.clean = {}, False
            self.connect()
            return
        self.reads = self.mode != "deaf"
        if self.mode == "honest":
            self._honest()
        elif self.mode == "hostile":
            for _n in range(self.w.rng.randrange(1, 4)):
                self.attack()

    def _configure(self):
        self.ask(a.Configure, cluster="sim", groups=tuple(self.w.groups.values()), config=7)

    def _honest(self):
        rng, now_s = self.w.rng, self.w.agenda.now_s
        if self.maintenance:
            if self.w.healed or rng.random() < 0.15:
                self.maintenance = False
                self.ask(a.Maintain, on=False)
            else:
                self._extend_all()
            return
        if not self.clean and now_s - self._asked_clean_s > 3.0:
            self._asked_clean_s = now_s
            self.ask(a.CleanUp)
        self._extend_all()
        for name, spec in self.w.groups.items():
            self._tend(name, spec)
        if not self.w.healed:
            self._sundries()

    def deadlines(self):
        now_ns = self.w.boottime_ns()
        return {"soft_ns": now_ns + self.w.soft_ns, "hard_ns": now_ns + self.w.hard_ns}

    def _extend_all(self):
        for name, (_state, epoch) in list(self.groups.items()):
            self.ask(a.Extend, group=name, epoch=epoch, **self.deadlines())

    def _tend(self, name, spec):
        rng = self.w.rng
        state, epoch = self.groups.get(name, ("idle", 0))
        if state == "idle":
            if self.clean and self.wanted and (self.w.healed or rng.random() < 0.4):
                self.start(spec)
            elif self.w.auditing and not self.wanted:
                self.ask(a.StopGroup, group=name, epoch=self.epoch, why="to be sure")
        elif state == "stop_failed":
            if rng.random() < 0.3:
                self.ask(a.StopGroup, group=name, epoch=epoch, why="again")
        elif not self.wanted or (not self.w.healed and rng.random() < self.w.stop_share):
            if state != "stopping":
                self.groups[name] = ("stopping", epoch)
                self.ask(a.StopGroup, group=name, epoch=epoch, why="a move")
                if self.w.restart_after_stop:
                    self.ask(a.RestartResource, group=name, epoch=epoch, resource="fs")

    def start(self, spec):
        self.epoch += 1
        self.groups[spec.name] = ("starting", self.epoch)
        evidence = Evidence.RELEASED
        self.ask(a.StartGroup, group=spec, epoch=self.epoch, evidence=evidence, **self.deadlines())

    def _sundries(self):
        rng = self.w.rng
        if rng.random() < 0.04:
            self.ask(a.Prepare, group=rng.choice(list(self.w.groups.values())))
        if rng.random() < 0.05:
            self.fence()
        if rng.random() < 0.03:
            self.ask(a.CheckFence, timeout_ms=2000, plugs={"n2": "2"}, **self._box())
        if rng.random() < 0.04 and self.groups:
            name, (_state, epoch) = rng.choice(list(self.groups.items()))
            resource = rng.choice(self.w.groups[name].resources).name
            self.ask(a.RestartResource, group=name, epoch=epoch, resource=resource)
        if self.w.maintenance_share and rng.random() < self.w.maintenance_share:
            self.maintenance = True
            self.ask(a.Maintain, on=True)
        if rng.random() < 0.02:
            self._configure()
        if rng.random() < 0.02:
            self.ask(a.CleanUp)

    def _box(self):
        path = str(self.w.folder / "fence_box")
        return {"device": "box", "agent": path, "parameters": {}, "secret_files": {}}

    def fence(self):
        self._order += 1
        plug = str(self.w.rng.randrange(3))
        self.w.fence_box.off.discard(plug)
        timeout_ms = self.w.rng.choice((500, 2000, 5000))
        self.ask(a.RunFence, order=self._order, target="n2", plug=plug, timeout_ms=timeout_ms, **self._box())

    # -- the attacker ----------------------------------------------------------------------------------------------

    def attack(self):
        rng = self.w.rng
        choice = rng.randrange(14)
        spec = rng.choice(list(self.w.groups.values()))
        epoch = max(0, self.epoch + rng.randrange(-6, 3))
        match choice:
            case 0 if self._past:
                self.send(rng.choice(self._past))  # the same again, id and all
            case 1:
                self.ask(a.StartGroup, group=spec, epoch=epoch, evidence=Evidence.FENCED, **self.deadlines())
            case 2:
                self.ask(a.Extend, group=spec.name, epoch=epoch, **self.deadlines())
            case 3:
                now_ns = self.w.boottime_ns()
                soft, hard = rng.randrange(-(10**10), 10**14), rng.randrange(-(10**10), 10**14)
                self.ask(a.Extend, group=spec.name, epoch=self.epoch, soft_ns=now_ns + soft, hard_ns=now_ns + hard)
            case 4:
                self.ask(a.StopGroup, group=rng.choice((spec.name, "nobody", "../x")), epoch=epoch, why="\0" * 50)
            case 5:
                evidence = Evidence.RELEASED
                self.ask(a.StartGroup, group=self._evil(), epoch=self._next(), evidence=evidence, **self.deadlines())
            case 6:
                self.ask(a.RestartResource, group=spec.name, epoch=epoch, resource=rng.choice(("x", "fs", "vip", "")))
            case 7:
                box = {**self._box(), "agent": rng.choice(("/bin/sh", "fence_../../x", "/nowhere/fence", "sh"))}
                if box["agent"] == "/bin/sh":
                    box["parameters"] = {"x": "1\naction=on"}
                self.ask(
                    a.RunFence, order=10**6 + self._next(), target="n1", plug="1\naction=on", timeout_ms=100, **box
                )
            case 8:
                self.ask(a.Prepare, group=self._evil())
            case 9:
                self.ask(a.Configure, cluster="\n" * 9, groups=(*self.w.groups.values(), self._evil()), config=8)
            case 10 if self.reader is not None:
                self._garbage()
            case 11:
                self.connect(uid=rng.choice((0, 0, 1000)), greet=rng.random() < 0.7)
            case 12:
                self.ask(a.CleanUp)
            case 13:
                now_ns = self.w.boottime_ns()
                deadlines = {"soft_ns": now_ns - 1, "hard_ns": now_ns + 10**9}
                self.ask(a.StartGroup, group=spec, epoch=self._next(), evidence=Evidence.RELEASED, **deadlines)

    def _next(self):
        self.epoch += 1
        return self.epoch

    def _evil(self):
        rng = self.w.rng
        agent = rng.choice(("hamail:../../../bin/sh", "hamail:vip", "nobody:x", "hamail:service", "ocf:hamail:unit"))
        parameters = rng.choice(({"LD_PRELOAD": "/x"}, {"label": "x", "PATH": "/tmp"}, {"a\nb": "c"}, {"label": "\0"}))
        name = rng.choice(("evil", "../evil", "e" * 100, "evil"))
        resources = (ResourceSpec(name=rng.choice(("r", "../r")), agent=agent, parameters=parameters),)
        return GroupSpec(name=name, nodes=("n1",), resources=resources)

    def _garbage(self):
        rng = self.w.rng
        body = rng.choice((b"\0\0\0\0", b"\xff" * 40, b"\0\0\0\4abcd", b"\0\0\0\2\x81", b"\0\0\0\3\x93\x93\x93"))
        body = rng.choice(
            (body, encode_raw({"request": "run", "id": 1}), encode_raw({"request": "stop_group", "id": "x"}))
        )
        self.reader.feed_data(body)


def encode_raw(thing):
    body = msgspec.msgpack.encode(thing)
    return len(body).to_bytes(4, "big") + body
