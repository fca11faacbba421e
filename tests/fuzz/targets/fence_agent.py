"""A fence agent that prints and returns anything: a fence counts only when `off` and then `status` have said so; what
it is told is one line for each parameter, and no secret comes out.
"""

from pathlib import Path

from hamail.fencing.agent import OFF, Device, Ended, FenceAgents

INSTRUMENT = ("hamail.fencing.agent",)
LENGTH_MAX = 2048
SECRET = "s3cret-word"
META = (
    '<resource-agent name="x"><parameters><parameter name="plug"/></parameters>'
    '<actions><action name="off"/></actions></resource-agent>'
)
PROGRAM = "/proc/self/exe"  # there; nothing runs it


def seeds() -> list[bytes]:
    meta = META.encode()
    plain = b"login=admin\x00plug=3\x00n1"
    return [
        bytes([a, b, c]) + meta + b"\x1e" + said + b"\x1e" + plain
        for a, b, c in ((0, 0, 2), (0, 0, 0), (0, 1, 2), (0, 0, 255), (1, 0, 2))
        for said in (b"", b"Failed: " + SECRET.encode() + b" is wrong\n", b"\x1b[2J\xff")
    ] + [b"\x00\x00\x02\x1e\x1e" + b"action=on\x00a b=c\x00pcmk_x=1\x00k=a\nb"]


def one(data: bytes) -> None:
    codes = [None if c == 255 else c for c in data[:3]]
    meta, _, rest = data[3:].partition(b"\x1e")
    said, _, given = rest.partition(b"\x1e")
    text = said.decode("utf-8", "backslashreplace")
    parameters = dict(
        pair.decode("utf-8", "replace").partition("=")[::2] for pair in given.split(b"\x00")[:20] if b"=" in pair
    )
    device = Device(name="pdu", agent=PROGRAM, parameters=parameters, secrets={"password": SECRET})
    runs: list[bytes] = []

    async def run(path: Path, request: bytes, limit_ms: int) -> Ended:
        assert str(path) == PROGRAM
        assert limit_ms > 0
        _check_request(request)
        runs.append(request)
        code = codes[min(len(runs) - 1, len(codes) - 1)] if codes else 1
        stdout = meta.decode("utf-8", "backslashreplace") if b"action=metadata" in request else text
        return Ended(exit_code=code, why="was killed", stdout=stdout, stderr=text)

    agents = FenceAgents(run)
    plug = given[-8:].decode("utf-8", "replace")
    why_not = _now(agents.fence(device, "n1", plug, 60_000))
    actions = [r.split(b"\n")[0] for r in runs]
    if not why_not:
        assert actions == [b"action=metadata", b"action=off", b"action=status"], actions
        assert codes == [0, 0, OFF], f"a fence counts although the agent ended with {codes}"
    if SECRET.encode() not in given:  # else it is not secret
        assert SECRET not in why_not
        assert SECRET not in _now(agents.check(device, {"n1": plug}, 60_000))


def _check_request(request: bytes) -> None:
    lines = request.split(b"\n")
    assert lines[0].startswith(b"action=") and lines[-1] == b""
    assert sum(line.startswith(b"action=") for line in lines) == 1, "two actions"
    assert b"\0" not in request and b"\r" not in request


def _now(step):
    try:
        step.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")
