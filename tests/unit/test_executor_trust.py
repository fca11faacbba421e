"""Whom a root process trusts: paths, secrets, and what agents say about themselves."""

import os

import pytest
from executor_world import root_folder

from hamail.executor import hostmounts
from hamail.executor.agents import Severity, exit_reason, explain, result_of, severity
from hamail.executor.kinds import Kind, addresses_of, kind_of, mount_of
from hamail.executor.metadata import BadMetadata, parse, parse_duration_ms
from hamail.executor.processes import Finished
from hamail.executor.trust import SYMLINKS_MAX, Untrusted, read_secret, trusted_executable, trusted_path
from hamail.model.spec import ResourceSpec

pytestmark = pytest.mark.root


@pytest.fixture
def folder():
    with root_folder() as made:
        yield made


@pytest.fixture
def program(folder):
    path = folder / "sub" / "agent"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_root_owned_is_trusted_also_through_links(folder, program):
    assert trusted_executable(program)
    (folder / "link").symlink_to("sub/agent")
    (folder / "dir").symlink_to(folder / "sub")
    assert trusted_executable(folder / "link")
    assert trusted_executable(folder / "dir" / ".." / "sub" / "agent")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.chmod(0o775), "can be written by others"),
        (lambda p: p.chmod(0o757), "can be written by others"),
        (lambda p: p.parent.chmod(0o777), "can be written by others"),
        (lambda p: p.parent.chmod(0o1777), "can be written by others"),
        (lambda p: os.chown(p, 65534, 0), "belongs to user 65534"),
        (lambda p: os.chown(p.parent, 65534, 0), "belongs to user 65534"),
        (lambda p: p.chmod(0o644), "not executable"),
        (lambda p: p.unlink(), "No such file"),
        (lambda p: (p.unlink(), p.mkdir()), "not a regular file"),
        (lambda p: (p.unlink(), p.symlink_to("/tmp")), "can be written by others"),
        (lambda p: (p.unlink(), p.symlink_to(p)), f"more than {SYMLINKS_MAX}"),
    ],
)
def test_what_others_could_change_is_not_trusted(program, spoil, said):
    spoil(program)
    with pytest.raises(Untrusted, match=said):
        trusted_executable(program)


def test_relative_path_is_not_trusted():
    from pathlib import Path

    with pytest.raises(Untrusted, match="not an absolute path"):
        trusted_path(Path("agents/vip"))


def test_secrets(folder):
    secret = folder / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(0o640)
    assert read_secret(secret) == "hunter2"
    secret.chmod(0o644)
    with pytest.raises(Untrusted, match="read by everybody"):
        read_secret(secret)
    secret.chmod(0o600)
    os.chown(secret, 65534, 0)
    with pytest.raises(Untrusted, match="belongs to user"):
        read_secret(secret)
    os.chown(secret, 0, 0)
    secret.write_text("x" * 5000)
    with pytest.raises(Untrusted, match="more than 4096"):
        read_secret(secret)


OLD = """<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="IPaddr2"><version>1.0</version>
<longdesc lang="en">Text &amp; more</longdesc>
<parameters><parameter name="ip" unique="1" required="1"><content type="string" default=""/></parameter>
<parameter name="nic" required="1"><content type="string"/></parameter><parameter name="x"/></parameters>
<actions><action name="start" timeout="20"/><action name="monitor" depth="0" timeout="20s" interval="10s"/>
<action name="monitor" depth="10" timeout="1min" interval="60"/><action name="stop" timeout="nonsense"/></actions>
</resource-agent>"""


def test_old_metadata_is_read_leniently():
    found = parse(OLD)
    assert found.parameters == {"ip": False, "nic": True, "x": False}
    assert found.timeouts_ms == {"start": 20_000, "monitor": 60_000, "stop": 20_000}
    assert found.deep_intervals_ms == {10: 60_000}
    assert found.timeout_ms("validate-all") == 20_000
    assert found.refuse({"ip": "1", "nic": "eth0"}) == ""
    assert "needs the parameter nic" in found.refuse({})
    assert "has no parameter y; it has ip, nic, x" in found.refuse({"nic": "eth0", "y": "1"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not XML"),
        ("<a>", "not XML"),
        ("<a/>", "no <resource-agent"),
        ('<!DOCTYPE a [<!ENTITY e "eeee">]><resource-agent name="&e;"/>', "entities"),
        (
            '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><resource-agent name="a">&e;</resource-agent>',
            "entit",
        ),
        ("x" * (600 << 10), "more than"),
    ],
)
def test_bad_metadata(text, said):
    with pytest.raises(BadMetadata, match=said):
        parse(text)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("20", 20_000), ("20s", 20_000), (" 5 min ", 300_000), ("150ms", 150), ("", None), ("5 parsecs", None)],
)
def test_durations(text, ms):
    assert parse_duration_ms(text) == ms


def test_exit_codes_have_classes():
    assert [severity(c) for c in (0, 190)] == [Severity.OK] * 2
    assert [severity(c) for c in (2, 3, 4, 5)] == [Severity.HARD] * 4
    assert severity(6) is Severity.FATAL
    assert [severity(c) for c in (1, 7, 8, 9, 77, None)] == [Severity.SOFT] * 6


def test_reasons():
    assert exit_reason("noise\nocf-exit-reason:first\nocf-exit-reason: last \ntrailing\n") == "last"
    assert exit_reason("only\nnoise\n\n") == "noise"
    assert exit_reason("") == ""
    assert explain("stop", Finished(exit_code=77)) == "stop ended with 77 (unknown exit code)"
    assert explain("start", Finished(exit_code=None, why="timed out after 5 ms", stderr="stuck\n")) == (
        "start timed out after 5 ms: stuck"
    )


def test_what_to_watch_is_read_from_stdout_only_in_its_form():
    out = "x\nhamail-watch: pid=12 start=34\nhamail-watch: pid=-1 start=3\n hamail-watch: pid=5 start=6\n"
    out += "hamail-cgroup: dovecot.service\nhamail-cgroup: dovecot.service\nhamail-cgroup:\n"
    result = result_of("start", Finished(exit_code=0, stdout=out))
    assert result.watched == ((12, 34),) and result.cgroups == ("dovecot.service",)


def spec(agent, **parameters):
    return ResourceSpec(name="r", agent=agent, parameters=parameters)


def test_kinds():
    assert kind_of(spec("hamail:vip")) is Kind.ADDRESS
    assert kind_of(spec("ocf:heartbeat:IPaddr2")) is Kind.ADDRESS
    assert kind_of(spec("heartbeat:Filesystem")) is Kind.STORAGE
    assert kind_of(spec("hamail:postfix")) is Kind.SERVICE
    both = spec("hamail:vip", address="10.0.0.1/24 FD00:0::1/64", interface="eth0")
    assert addresses_of(both) == {"10.0.0.1", "fd00::1"}
    assert addresses_of(spec("hamail:postfix", address="10.0.0.1")) == frozenset()
    mount = mount_of(spec("hamail:filesystem", device="/dev/x", directory="/srv/mail"))
    assert mount is not None and (mount.device, mount.directory) == ("/dev/x", "/srv/mail")
    assert mount_of(spec("heartbeat:LVM-activate", vgname="x")) is None


def test_a_folder_is_no_secret(folder):
    with pytest.raises(Untrusted, match="not a regular file"):
        read_secret(folder)


def test_what_is_no_address_is_left_to_the_agent_to_refuse():
    assert addresses_of(spec("hamail:vip", address="nonsense, 192.0.2.1/24 2001:DB8::1")) == {
        "192.0.2.1",
        "2001:db8::1",
    }


@pytest.mark.parametrize("given", ["systemd", "-1", "../1", "\u0661"])
def test_the_owner_of_the_mounts_is_a_process(monkeypatch, given):
    monkeypatch.setenv(hostmounts.VARIABLE, given)
    with pytest.raises(ValueError, match="no process id"):
        hostmounts.owner()
