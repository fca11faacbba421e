"""The audit trail: what is written, and that every way to tamper with it is found."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from aiohttp import web
from click.testing import CliRunner

from hamail.audit import trail as trails
from hamail.audit.entry import GENESIS, Entry, Fact, digest_of, line_of
from hamail.audit.reading import NAME, Damaged, entries, files, verify
from hamail.audit.trail import Trail
from hamail.cli.main import cli
from hamail.control.audited import FORBIDDEN_MAX, Audited
from hamail.daemon import audit_keeper
from hamail.daemon.audit_keeper import AuditKeeper
from hamail.model.practice import AuditHead


def fact(number: int) -> Fact:
    return Fact(at_ms=number, kind="request", actor="root", what=f"thing {number}", reason="why", result="done")


def written(folder: Path, count: int = 5, begin: int = 0) -> Trail:
    trail = Trail(folder / NAME, "n1", pytest.fail)
    trail.take_up()
    trail.start()
    for number in range(begin, begin + count):
        trail.note(fact(number))
    trail.stop()
    return trail


def lines(folder: Path) -> list[bytes]:
    return (folder / NAME).read_bytes().splitlines(keepends=True)


def test_a_trail_is_whole_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    first = written(tmp_path)
    second = written(tmp_path, begin=5)
    assert second.head[0] == first.head[0] + 5
    found = list(entries(tmp_path / NAME))
    assert [e.what for e in found] == [f"thing {n}" for n in range(10)]
    assert found[0].previous == GENESIS and found[-1].digest == second.head[1]
    assert verify(tmp_path / NAME, *second.head).sequence == 10
    assert (tmp_path / NAME).stat().st_mode & 0o077 == 0


def edit(folder: Path, number: int) -> None:
    all_lines = lines(folder)
    all_lines[number] = all_lines[number].replace(b"thing", b"thimg")
    (folder / NAME).write_bytes(b"".join(all_lines))


def forge(folder: Path, number: int) -> None:
    """With a digest of its own that fits: only the next entry tells."""
    all_lines = lines(folder)
    entry = msgspec.json.decode(all_lines[number], type=Entry)
    entry = msgspec.structs.replace(entry, what="nothing")
    all_lines[number] = line_of(msgspec.structs.replace(entry, digest=digest_of(entry)))
    (folder / NAME).write_bytes(b"".join(all_lines))


def drop(folder: Path, number: int) -> None:
    all_lines = lines(folder)
    del all_lines[number]
    (folder / NAME).write_bytes(b"".join(all_lines))


def cut(folder: Path, number: int) -> None:
    (folder / NAME).write_bytes(b"".join(lines(folder)[:number]))


def tear(folder: Path, _number: int) -> None:
    (folder / NAME).write_bytes((folder / NAME).read_bytes()[:-5])


def swap(folder: Path, number: int) -> None:
    all_lines = lines(folder)
    all_lines[number], all_lines[number + 1] = all_lines[number + 1], all_lines[number]
    (folder / NAME).write_bytes(b"".join(all_lines))


def garbage(folder: Path, number: int) -> None:
    all_lines = lines(folder)
    all_lines[number] = b"{}\n"
    (folder / NAME).write_bytes(b"".join(all_lines))


@pytest.mark.parametrize(
    ("tamper", "number", "says"),
    [
        (edit, 2, "entry 3 was changed"),
        (edit, 4, "entry 5 was changed"),
        (forge, 2, "entry 4 is not behind"),
        (forge, 4, "was rewritten"),
        (drop, 2, "some are missing"),
        (drop, 4, "its end was cut off"),
        (drop, 0, "begins with entry 2"),
        (cut, 2, "its end was cut off"),
        (cut, 0, "its end was cut off"),
        (tear, 0, "the line is cut off"),
        (swap, 1, "some are missing"),
        (garbage, 3, "no entry of a trail"),
    ],
)
def test_every_way_to_tamper_is_found(tmp_path: Path, tamper, number: int, says: str) -> None:
    head = written(tmp_path).head
    tamper(tmp_path, number)
    with pytest.raises(Damaged, match=says):
        verify(tmp_path / NAME, *head, live=True)


async def test_a_trail_that_was_rewritten_meanwhile_begins_anew_for_all_to_see(tmp_path: Path, monkeypatch) -> None:
    """As long as before and whole in itself: only what the cluster knows shows it. The event log then says it."""
    monkeypatch.setattr(audit_keeper, "REPORT_EVERY_S", 0.01)

    async def reported(trail: Trail, known: AuditHead) -> list[bool]:
        said: list[bool] = []
        engine = SimpleNamespace(me="n1", problem="", state=SimpleNamespace(audit={"n1": known}))
        shell = SimpleNamespace(
            engine=engine,
            consensus=True,
            machine=SimpleNamespace(heard=None),
            propose=lambda command, _done: said.append(command.anew),
        )
        keeper = AuditKeeper(shell, trail)  # type: ignore[arg-type]
        keeper.start()
        async with asyncio.timeout(5):
            while len(said) < 2:
                await asyncio.sleep(0.01)
        await keeper.stop()
        return said

    (tmp_path / "true").mkdir()
    (tmp_path / "false").mkdir()
    first, other = written(tmp_path / "true"), written(tmp_path / "false", begin=50)
    known = AuditHead(sequence=first.head[0], digest=first.head[1], at_ms=0)
    assert other.head[0] == known.sequence
    for folder, anew in (("true", False), ("false", True)):
        trail = Trail(tmp_path / folder / NAME, "n1", print)
        trail.take_up()
        assert (await reported(trail, known))[:2] == [anew, False], folder


def test_rotation_keeps_the_chain_and_the_number_of_files(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(trails, "FILE_BYTES_MAX", 2000)
    for number in range(0, 400, 8):
        trail = written(tmp_path, 8, number)
    assert 5 < len(files(tmp_path / NAME)) <= 11
    last = verify(tmp_path / NAME, *trail.head)
    assert last.sequence == 400
    middle = files(tmp_path / NAME)[3]
    middle.write_bytes(b"".join(middle.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(Damaged, match="missing"):
        verify(tmp_path / NAME, *trail.head)


def test_a_line_that_a_power_cut_left_half_written_is_cut_off_and_said(tmp_path: Path) -> None:
    written(tmp_path)
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"sequence":6,"at')
    trail = written(tmp_path, 1, 5)
    found = list(entries(tmp_path / NAME))
    assert [e.kind for e in found[-2:]] == ["trail", "request"]
    assert "not finished" in found[-2].what
    assert verify(tmp_path / NAME, *trail.head)


def test_a_damaged_trail_is_put_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    written(tmp_path)
    garbage(tmp_path, 3)
    warned: list[str] = []
    trail = Trail(tmp_path / NAME, "n1", warned.append)
    trail.take_up()
    trail.start()
    trail.stop()
    assert "a new one is begun" in warned[0]
    assert [e.sequence for e in entries(tmp_path / NAME)] == [1]
    assert list(tmp_path.glob("*.damaged-*"))


def test_what_cannot_be_written_is_counted_and_said_later(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(trails, "RETRY_S", 0.01)
    folder = tmp_path / "away"
    warned: list[str] = []
    trail = Trail(folder / NAME, "n1", warned.append)
    trail.take_up()
    trail.start()
    trail.note(fact(1))
    until = time.monotonic() + 3
    while not warned and time.monotonic() < until:
        time.sleep(0.01)
    folder.mkdir()
    trail.note(fact(2))
    trail.stop()
    assert len(warned) == 1
    assert [e.what for e in entries(folder / NAME)] == ["thing 2", "1 entries could not be written"]


BAD_CHUNK = web.RequestPayloadError("no such chunk")


async def asked(
    path: str, answer: web.Response, times: int = 1, body: bytes | Exception | None = b"{}"
) -> list[tuple[str, ...]]:
    kept: list[tuple[str, ...]] = []
    audited = Audited(lambda *words: kept.append(words), frozenset({"/v1/moves/check"}))

    class Request(dict):
        method, transport = "POST", None

        def get_extra_info(self, _name):
            return None

        async def read(self):
            if body is None:
                await asyncio.sleep(3600)
            if isinstance(body, Exception):
                raise body
            return body

    async def handler(_request):
        return answer

    for _ in range(times):
        request = Request()
        request.path = path
        await audited.middleware(request, handler)
    return kept


async def test_what_is_taken_down_of_a_request() -> None:
    body = b'{"group":"mail","to":"n2","reason":"kernel update","request":"","source":"%s"}' % (b"x" * 5000)
    (kept,) = await asked("/v1/moves", web.Response(status=200), body=body)
    _, what, reason, result = kept
    assert "group=mail to=n2" in what and "sha256" in what and "xxxx" not in what
    assert (reason, result) == ("kernel update", "done")
    refusal = web.Response(status=409, body=b'{"error":"refused","reasons":["n2 is in standby"]}')
    (kept,) = await asked("/v1/moves", refusal)
    assert kept[3] == "409: refused; n2 is in standby"
    assert await asked("/v1/moves/check", web.Response(status=200)) == []


@pytest.mark.parametrize("body", [None, BAD_CHUNK, b"[" * 9000], ids=["never", "bad", "deep"])
async def test_a_body_that_never_comes_or_is_none_keeps_nothing_up(monkeypatch, body: bytes | Exception | None) -> None:
    """Who was refused could keep every connection to hamaild, and root's orders would find it busy."""
    monkeypatch.setattr("hamail.control.audited.BODY_WAIT_S", 0.01)
    async with asyncio.timeout(5):
        (kept,) = await asked("/v1/moves", web.Response(status=403), body=body)
    assert kept[1] == "POST /v1/moves" and kept[3].startswith("403")


async def test_who_may_not_act_cannot_flood_the_trail() -> None:
    assert len(await asked("/v1/moves", web.Response(status=403), times=200)) == FORBIDDEN_MAX


def test_the_command(tmp_path: Path) -> None:
    written(tmp_path)
    away = ["--socket", str(tmp_path / "nothing.sock"), "audit"]
    run = CliRunner()
    shown = run.invoke(cli, [*away, "show", "--last", "2", "--file", str(tmp_path / NAME)])
    assert shown.exit_code == 0 and "thing 4 by root (why): done" in shown.output and "thing 2" not in shown.output
    out = tmp_path / "copy.jsonl"
    assert run.invoke(cli, [*away, "export", "-o", str(out), "--file", str(tmp_path / NAME)]).exit_code == 0
    assert out.read_bytes() == (tmp_path / NAME).read_bytes()
    good = run.invoke(cli, [*away, "verify", "--file", str(out)])
    assert good.exit_code == 0 and "is whole from entry 1 up to entry 5" in good.output
    edit(tmp_path, 1)
    bad = run.invoke(cli, [*away, "verify", "--file", str(tmp_path / NAME)])
    assert bad.exit_code == 1 and "entry 2 was changed" in bad.output
    none = run.invoke(cli, [*away, "show", "--file", str(tmp_path / "no")])
    assert none.exit_code == 3
