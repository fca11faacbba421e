"""What a resource agent prints, and what people are then told."""

from hamail.executor.agents import REASON_CHARS_MAX, WATCHED_MAX, result_of
from hamail.executor.processes import Finished

INSTRUMENT = ("hamail.executor.agents",)
LENGTH_MAX = 8192


def seeds() -> list[bytes]:
    lines = b"hamail-watch: pid=123 start=456\nhamail-cgroup: system.slice/postfix.service\nocf-exit-reason:no disk\n"
    return [
        b"\x00" + lines,
        b"\x01" + lines * 20,
        b"\x07" + lines,
        b"\xff\x1b[2Jocf-exit-reason:\xff\xfe",
        b"\x05" + b" " * 2000,
    ]


def one(data: bytes) -> None:
    code, text = (data[0] if data else 0), data[1:].decode("utf-8", "backslashreplace")
    exit_code = None if code == 255 else code
    finished = Finished(exit_code=exit_code, stdout=text, stderr=text, took_ms=1, why="was killed")
    result = result_of("monitor", finished)
    assert len(result.watched) <= WATCHED_MAX
    assert len(result.cgroups) <= WATCHED_MAX
    assert len(result.detail) <= REASON_CHARS_MAX + 200
    assert result.detail.isprintable()
    assert result.severity
