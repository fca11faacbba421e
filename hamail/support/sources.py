"""What goes into the archive: commands, files, and what hamaild tells. Each part is bounded, and may fail by itself."""

import contextlib
import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

import hamail
from hamail.control.client import ControlClient, ControlError

PART_BYTES_MAX = 5 << 20
COMMAND_TIMEOUT_S = 20
LOG_LINES = 20_000
STDERR_BYTES_MAX = 20_000
SECRETS_MAX = 200
SECRET_BYTES_MAX = 4096
UNITS = ("hamaild", "hamail-executor", "hamail-agents", "hamail-issuer", "hamail-renew", "hamail-metrics")
MAIL_UNITS = ("postfix*", "dovecot*", "opendkim*", "rspamd*")
ETC = Path("/etc/hamail")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"LC_ALL": "C", "SYSTEMD_COLORS": "0", "PATH": PATH}


T = TypeVar("T")


class Unavailable(Exception):
    """This part cannot be had; the sentence says why."""


@dataclass(frozen=True)
class Part:
    name: str  # of the file in the archive
    read: Callable[[], str]


def parts(client: ControlClient, since: str, etc: Path = ETC) -> Iterator[Part]:
    """`since`: for journalctl."""
    asked = {
        "status.json": client.status,
        "state.json": client.state,
        "history.json": client.history,
        "events.json": client.events,
        "timings.json": client.timings,
    }
    for name, ask in asked.items():
        yield Part(f"hamail/{name}", lambda ask=ask: _asked(ask))  # type: ignore[misc]
    yield Part("hamail/config-applied.toml", lambda: _source(client))
    yield Part("hamail/why.txt", lambda: _why(client))
    yield Part("hamail/metrics.txt", lambda: _told(client.metrics))
    yield Part("hamail/doctor.json", lambda: _hamailctl("doctor", "--json"))
    yield Part("hamail/pki.json", lambda: _hamailctl("pki", "status", "--json"))
    yield Part("hamail/audit.json", lambda: _hamailctl("audit", "show", "--last", "2000", "--json"))
    yield Part("hamail/audit-verify.json", lambda: _hamailctl("audit", "verify", "--json"))
    for file in ("cluster.toml", "node.toml"):
        yield Part(f"etc/{file}", lambda file=file: _file(etc / file))  # type: ignore[misc]
    yield Part("versions.txt", versions)
    for name, words in commands(since).items():
        yield Part(name, lambda words=words: run(*words))  # type: ignore[misc]


def commands(since: str) -> dict[str, tuple[str, ...]]:
    units = tuple(word for unit in UNITS for word in ("-u", unit))
    mail = tuple(word for unit in MAIL_UNITS for word in ("-u", unit))
    journal = ("journalctl", "--no-pager", "-o", "short-iso-precise", "--since", since, "-n", str(LOG_LINES))
    return {
        "logs/hamail.txt": (*journal, *units),
        "logs/mail.txt": (*journal, *mail),
        "logs/kernel.txt": (*journal, "-k"),
        "system/units.txt": ("systemctl", "status", "--no-pager", "-l", "-n", "0", *UNITS, *MAIL_UNITS),
        "system/failed.txt": ("systemctl", "--failed", "--no-pager"),
        "system/addresses.txt": ("ip", "-details", "address"),
        "system/routes.txt": ("ip", "route", "show", "table", "all"),
        "system/neighbours.txt": ("ip", "neighbour"),
        "system/filter.txt": ("nft", "list", "ruleset"),
        "system/sockets.txt": ("ss", "-tulpn"),
        "system/mounts.txt": ("findmnt", "--real"),
        "system/disks.txt": ("lsblk", "-o", "NAME,SIZE,TYPE,FSTYPE,MOUNTPOINTS,RO"),
        "system/space.txt": ("df", "-hT"),
        "system/memory.txt": ("free", "-m"),
        "system/processes.txt": ("ps", "-eo", "pid,ppid,user,stat,wchan:20,pcpu,rss,etime,comm"),
        "system/clock.txt": ("timedatectl", "show"),
        "mail/postfix.txt": ("postconf", "-n"),
        "mail/dovecot.txt": ("doveconf", "-n"),
        "mail/queue.txt": ("postqueue", "-p"),
    }


def known_secrets(etc: Path = ETC) -> list[str]:
    """The contents of the files of secrets, so that they are found wherever else they stand."""
    found: list[str] = []
    for file in _secret_files(etc):
        try:
            with file.open("rb") as stream:
                text = stream.read(SECRET_BYTES_MAX).decode("utf-8", "replace")
        except OSError:
            continue  # what cannot be read by this user cannot be in what this user collects, but for logs
        found += [line.strip() for line in text.splitlines() if line.strip()] + [text.strip()]
    return [value for value in dict.fromkeys(found) if value]


def _secret_files(etc: Path) -> list[Path]:
    files: list[Path] = []
    for folder in (etc / "secrets", etc / "pki"):
        if folder.is_dir():
            files += [f for f in sorted(folder.rglob("*")) if f.is_file() and (folder.name != "pki" or "key" in f.name)]
    with contextlib.suppress(OSError, ValueError):  # it is told in its own part
        files += _named(tomllib.loads((etc / "cluster.toml").read_text(encoding="utf-8")))
    return files[:SECRETS_MAX]


def _named(value: object, key: str = "") -> Iterator[Path]:
    """Files of secrets that a configuration names."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _named(inner, "secret" if key == "secret_files" else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, key)
    elif isinstance(value, str) and value.startswith("/") and ("secret" in key or "password" in key):
        yield Path(value)


def run(*words: str) -> str:
    """What a command says. Raises Unavailable."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **ENVIRONMENT},
        )
    except FileNotFoundError as error:
        raise Unavailable(f"there is no {words[0]} here") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{words[0]}: {error}") from error
    text = _end(done.stdout, PART_BYTES_MAX)
    if done.stderr:
        text += f"\n-- standard error:\n{_end(done.stderr, STDERR_BYTES_MAX)}"
    return text + (f"\n-- exit code {done.returncode}\n" if done.returncode else "")


def _end(data: bytes, bound: int) -> str:
    """Whole lines only: a piece of a secret, whose beginning was cut off, is recognised by nobody."""
    if len(data) > bound:
        data = data[-bound:].partition(b"\n")[2]
    return data.decode("utf-8", "replace")


def _hamailctl(*words: str) -> str:
    # -I: root may stand in a folder that others can write, and must not take modules from it
    return run(sys.executable, "-I", "-m", "hamail.cli.main", *words)


def _asked(ask: Callable[[], object]) -> str:
    return msgspec.json.format(msgspec.json.encode(_told(ask)), indent=1).decode()


def _told(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except ControlError as error:
        raise Unavailable(error.error) from error


def _source(client: ControlClient) -> str:
    try:
        return client.config().config.source
    except ControlError as error:
        raise Unavailable(error.error) from error


def _why(client: ControlClient) -> str:
    try:
        groups = sorted(client.state().spec.groups)
        return "\n\n".join("\n".join((f"{g}:", *client.why(g).sentences)) for g in groups)
    except ControlError as error:
        raise Unavailable(error.error) from error


def _file(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(PART_BYTES_MAX).decode("utf-8", "replace")
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error


def versions() -> str:
    lines = [
        f"hamailctl {hamail.__version__}",
        f"python {platform.python_version()} at {sys.executable}",
        f"kernel {platform.release()} {platform.machine()}",
        f"host {platform.node()}",
    ]
    for words in (("postconf", "-d", "mail_version"), ("dovecot", "--version"), ("systemctl", "--version")):
        try:
            lines.append(run(*words).partition("\n")[0])
        except Unavailable as error:
            lines.append(str(error))
    try:
        lines.append(_file(Path("/etc/os-release")))
    except Unavailable as error:
        lines.append(str(error))
    try:
        lines.append(run("dpkg-query", "-W", "hamail", "postfix", "dovecot-core", "fence-agents*", "resource-agents*"))
    except Unavailable as error:
        lines.append(str(error))
    return "\n".join(lines) + "\n"
