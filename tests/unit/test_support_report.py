"""The archive for helpers: canaries planted everywhere are nowhere in it, and it is bounded."""

import base64
import json
import os
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from hamail.cli.main import cli
from hamail.support import archive, sources
from hamail.support.archive import write
from hamail.support.redact import GONE, Redactor
from hamail.support.sources import Part, Unavailable, known_secrets

FENCE = 'canary-fence/pa+ss w0rd"x'
PROBE = "canary-probe-7781"
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEcanaryPEM\nabc\n-----END EC PRIVATE KEY-----"
UNKNOWN = "canary-unknown-3"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    (folder / "secrets").mkdir(parents=True)
    (folder / "pki").mkdir()
    (folder / "secrets" / "pdu").write_text(FENCE + "\n")
    (tmp_path / "elsewhere").write_text(PROBE)
    (folder / "pki" / "node.key").write_text(PEM)
    (folder / "cluster.toml").write_text(
        f'[groups.mail.resources.imap]\nparameters = {{ probe_password_file = "{tmp_path}/elsewhere" }}\n'
        f'[x]\npassword = "{UNKNOWN}"\nsecret_files = {{ password = "/etc/hamail/secrets/pdu" }}\n'
    )
    return folder


PLANTED = [
    FENCE,
    f"fence_ipmilan: login with {FENCE} failed",
    base64.b64encode(FENCE.encode()).decode(),
    f"GET /?p={quote(FENCE, safe='')}",
    FENCE.encode().hex(),
    json.dumps({"stdin": FENCE}),
    PROBE,
    f"ipaddr=10.0.0.1 passwd={UNKNOWN}",
    f'"password": "{UNKNOWN}"',
    f"password: {UNKNOWN}, next: thing",
    f"auth_token={UNKNOWN}",
    f"password=ab,{UNKNOWN};{UNKNOWN}",
    f"dnpass = {UNKNOWN}",
    f"pwd={UNKNOWN} community={UNKNOWN}",
    f'passwd: "x\\"{UNKNOWN}"',
    f"https://admin:{UNKNOWN}@pdu.example.org/",
    f"Authorization: Bearer {UNKNOWN}{UNKNOWN}",
    "AUTH PLAIN " + base64.b64encode(b"\0u\0" + UNKNOWN.encode()).decode(),
    f"hash is $6$salt${UNKNOWN}canaryhash",
    f"{{SHA512-CRYPT}}{UNKNOWN}canary",
    PEM,
    PEM[:60],
]


@pytest.mark.parametrize("text", PLANTED)
def test_a_canary_does_not_sing(etc: Path, text: str) -> None:
    told = Redactor(known_secrets(etc)).text(f"before {text} after")
    assert "canary" not in told, told
    assert FENCE not in told and base64.b64encode(FENCE.encode()).decode() not in told
    assert GONE in told and told.startswith("before")


@pytest.mark.parametrize(
    "text",
    [
        'secret_files = { password = "/etc/hamail/secrets/pdu" }',
        "postfix@-.service loaded active running",
        "token bucket filter",
        "detection = 1s",
        '"probe_password_file": "/etc/hamail/secrets/probe"',
    ],
)
def test_what_helps_stays(text: str) -> None:
    assert Redactor(["something"]).text(text) == text


def test_mail_addresses_become_codes_that_still_tell_people_apart() -> None:
    one = Redactor()
    told = one.text("to=<Jane.Doe@example.org>, from=<bob@example.org>, jane.doe@example.org")
    assert "jane" not in told.lower() and "bob" not in told
    codes = [word.strip("<>,") for word in told.replace("=", " ").split() if "@" in word]
    assert codes[0].partition("@")[0] == codes[2].partition("@")[0] != codes[1].partition("@")[0]
    assert all(code.endswith("@example.org") for code in codes)
    assert Redactor().text("bob@example.org") != Redactor().text("bob@example.org"), "another archive, another code"
    assert Redactor(hide_addresses=False).text("bob@example.org") == "bob@example.org"


def unpacked(file: Path) -> dict[str, str]:
    with tarfile.open(file) as tar:
        assert all(member.mode == 0o600 and member.isfile() for member in tar)
        return {
            m.name.partition("/")[2]: tar.extractfile(m).read().decode()  # type: ignore[union-attr]
            for m in tar.getmembers()
        }


def test_the_archive_is_bounded_and_tells_what_is_missing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(archive, "PART_BYTES_MAX", 1000)
    monkeypatch.setattr(archive, "TOTAL_BYTES_MAX", 2500)

    def fails() -> str:
        raise Unavailable("hamaild is away, and the password=hush1234 too")

    parts = [Part(f"p{n}", lambda n=n: f"{n}" * 900) for n in range(2)]  # type: ignore[misc]
    parts += [Part("big", lambda: "x" * 5000 + "end"), Part("gone", fails), Part("late", lambda: "y" * 500)]
    taken = write(tmp_path / "r.tar.gz", parts, Redactor(), lambda _: None)
    found = unpacked(tmp_path / "r.tar.gz")
    assert found["big"].startswith("(the beginning") and found["big"].endswith("end") and len(found["big"]) <= 700
    assert sum(one.size for one in taken) <= 2500
    assert "hamaild is away" in found["CONTENTS.txt"] and "hush1234" not in found["CONTENTS.txt"]
    assert "late" not in found and (tmp_path / "r.tar.gz").stat().st_mode & 0o077 == 0


def test_a_secret_is_not_cut_in_two(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(archive, "PART_BYTES_MAX", 100)
    text = "a" * 200 + FENCE + "b" * (100 - len(archive.CUT) - 3)
    write(tmp_path / "r.tar.gz", [Part("p", lambda: text)], Redactor([FENCE]), lambda _: None)
    assert not any(FENCE[-n:] in unpacked(tmp_path / "r.tar.gz")["p"] for n in range(4, len(FENCE)))


def test_the_command_without_hamaild(tmp_path: Path, etc: Path, monkeypatch) -> None:
    monkeypatch.setattr(sources, "commands", lambda _since: {"log.txt": ("sh", "-c", f"echo key: {PROBE}; echo >&2 x")})
    monkeypatch.setattr(sources, "_hamailctl", lambda *words: " ".join(words))
    monkeypatch.setattr(sources.parts, "__defaults__", (etc,))
    monkeypatch.setattr(known_secrets, "__defaults__", (etc,))
    out = tmp_path / "r.tar.gz"
    words = ["--socket", str(tmp_path / "no.sock"), "report", "-o", str(out), "--json"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert any("status.json" in text for text in json.loads(result.output)["missing"])
    found = unpacked(out)
    assert all("canary" not in text and PROBE not in text for text in found.values())
    assert "etc/cluster.toml" in found and "hamailctl" in found["versions.txt"]
    again = CliRunner().invoke(cli, words)
    assert again.exit_code == 2 and "exists" in again.output, "nothing is overwritten"


def test_root_takes_no_module_from_the_folder_that_it_stands_in(tmp_path: Path, monkeypatch) -> None:
    """`cd /tmp; sudo hamailctl report`, and somebody has put a module there."""
    (tmp_path / "hamail" / "cli").mkdir(parents=True)
    for file in ("hamail/__init__.py", "hamail/cli/__init__.py", "hamail/cli/main.py", "json.py"):
        (tmp_path / file).write_text('print("theirs")\n')
    monkeypatch.chdir(tmp_path)
    said = sources._hamailctl("--version")
    assert "theirs" not in said and "hamailctl" in said


def test_the_archive_is_closed_to_others_from_the_first_moment(tmp_path: Path) -> None:
    modes = []
    old = os.umask(0)
    try:
        file = tmp_path / "r.tar.gz"
        parts = [Part("p", lambda: modes.append(file.stat().st_mode & 0o777) or "x")]  # type: ignore[func-returns-value]
        real = os.open

        def look(*arguments: object, **named: object) -> int:
            opened = real(*arguments, **named)  # type: ignore[arg-type]
            modes.append(file.stat().st_mode & 0o777)
            return opened

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.open", look)
            write(file, parts, Redactor(), lambda _: None)
    finally:
        os.umask(old)
    assert set(modes) == {0o600} and len(modes) >= 2


def test_what_a_command_says_is_cut_between_lines(monkeypatch) -> None:
    monkeypatch.setattr(sources, "PART_BYTES_MAX", 30)
    said = sources.run("sh", "-c", f"echo 'it said password={UNKNOWN}'; echo the last line")
    assert said == "the last line\n"
