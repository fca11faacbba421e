"""What the executor does not do, each with its reason; and what it can do without: systemd, a console, cgroups."""

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from hamail.executor import bounds, cgroups, main, notify, policy, secrecy, spawn, watchdog
from hamail.executor.cgroups import CgroupSet, MarkedSet, ProcessSets
from hamail.executor.policy import Policy
from hamail.model.spec import ResourceSpec

NODE = Policy(
    agents=("hamail:*",),
    mounts=("/srv/mail",),
    units=("dovecot", "mail.target"),
    secrets=("/etc/s",),
    fence_parameters=(),
)


def resource(agent="hamail:filesystem", **parameters):
    return ResourceSpec(name="x", agent=agent, parameters=parameters)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (resource(device="/dev/sda", directory="/srv/../etc"), "no plain absolute path"),
        (resource(device="/dev/sda", directory="srv/mail"), "no plain absolute path"),
        (resource(device="/dev/sda", directory="/etc"), "nothing may be mounted at /etc"),
        (resource(device="/dev/../etc/x", directory="/srv/mail"), "no device below /dev"),
        (resource(device="//server/share", directory="/srv/mail"), "no device below /dev"),
        (resource("hamail:systemd", unit="sshd"), "unit sshd may not be moved"),
        (resource("hamail:systemd", unit="dovecot.target"), "unit dovecot.target may not be moved"),
        (resource("hamail:postfix", config_dir="/tmp/x"), "others than root can change"),
        (resource("hamail:dovecot", probe_password_file="/etc/shadow"), "not in a folder of secrets"),
        (resource("hamail:dovecot", probe_password_file="/etc/s/../shadow"), "not in a folder of secrets"),
    ],
)
def test_a_resource_beyond_the_bounds_of_the_node_is_refused(spec, why):
    assert why in NODE.refuse_resource(spec)


@pytest.mark.parametrize(
    "spec",
    [
        resource(device="UUID=1-2", directory="/srv/mail"),
        resource("hamail:systemd", unit="dovecot.service"),
        resource("hamail:systemd", unit="mail.target"),
        resource("hamail:postfix", config_dir="/srv/mail/not-mounted-yet"),
        resource("hamail:dovecot", probe_password_file="/etc/s/probe"),
        resource("hamail:service"),
    ],
)
def test_a_resource_within_the_bounds_is_not(spec):
    assert NODE.refuse_resource(spec) == ""


@pytest.mark.parametrize(
    ("agent", "parameters", "plugs", "secrets", "why"),
    [
        ("/bin/sh", {}, {}, {}, "is no fence agent"),
        ("fence_x", {"ip": "$(reboot)"}, {}, {}, "signs in it"),
        ("fence_x", {}, {"n1": "1;reboot"}, {}, "unusual signs"),
        ("fence_x", {}, {}, {"password": "/etc/shadow"}, "not in a folder of secrets"),
        ("fence_x", {"ip": "192.0.2.1"}, {"n1": "1"}, {"password": "/etc/s/ipmi"}, ""),
    ],
)
def test_a_fence_beyond_the_bounds_is_refused(agent, parameters, plugs, secrets, why):
    refused = NODE.refuse_fence(agent, parameters, plugs, secrets)
    assert why in refused if why else refused == ""


def test_nobody_leads_a_mount_astray(tmp_path):
    (tmp_path / "mine").mkdir(mode=0o777)
    (tmp_path / "mine").chmod(0o777)
    anywhere = Policy(agents=(), mounts=(str(tmp_path),), units=(), secrets=(), fence_parameters=())
    assert "mount point" in anywhere.refuse_resource(resource(device="/dev/sda", directory=f"{tmp_path}/mine/mail"))


@pytest.mark.root
def test_a_symbolic_link_is_no_mount_point():
    link = Path(f"/run/hamail-link-{os.getpid()}")
    link.symlink_to("/etc")
    try:
        assert "is a symbolic link" in policy._led_astray(link)
        assert policy._led_astray(Path("/run/hamail-none/of/these")) == ""
    finally:
        link.unlink()


def order(path, *arguments, environment=None, joins=()):
    return spawn.Spawn(
        id=1, path=path, arguments=list(arguments), environment=environment or {}, join_files=list(joins)
    )


@pytest.mark.parametrize(
    ("ordered", "why"),
    [
        (order("/usr/bin/env", "start"), ""),  # as if /usr were the folder of agents, and bin a provider
        (order("/usr/bin/env", "start", "stop"), "for one action only"),
        (order("/usr/bin/env", "-c"), "for one action only"),
        (order("/bin/sh"), "neither an agent"),
        (order("/sbin/fence_x", "off"), "neither an agent"),
        (order("/usr/bin/env", "start", environment={"LD_PRELOAD": "x"}), "with the variable LD_PRELOAD"),
        (order("/usr/bin/env", "start", environment={"PATH": "/tmp"}), "PATH of its own"),
        (order("/usr/bin/env", "start", joins=("/etc/passwd",)), "no control group"),
        (order("/usr/bin/env", "start", joins=("/sys/fs/../cgroup.procs",)), "no control group"),
        (order("/usr/bin/no-such-thing", "start"), "No such file"),
    ],
)
def test_the_agent_server_runs_agents_and_fence_agents_only(ordered, why):
    refused = bounds.refuse(ordered, (Path("/usr"),))
    assert why in refused if why else refused == ""


def test_systemd_is_told_and_missed_by_nobody(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify.from_environment().send("READY=1", "STATUS=up")
        assert systemd.recv(100) == b"READY=1\nSTATUS=up"
    notify.Notifier(str(tmp_path / "gone")).send("READY=1")
    notify.Notifier("@hamail-test-gone").send("READY=1")
    notify.Notifier(None).send("READY=1")


async def test_systemd_learns_at_once_what_is_held_no_more(monkeypatch):
    """An upgrade asks systemd before it restarts the executor; a word that is five seconds old would keep it."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    said, holding = asyncio.Queue(), ["holding mail up"]

    class Listens:
        def send(self, *lines):
            said.put_nowait(lines)

    class Holds:
        def sentence(self):
            return holding[0]

    telling = asyncio.create_task(main._keep_notifying(Listens(), Holds()))
    try:
        assert await said.get() == ("WATCHDOG=1", "STATUS=holding mail up")
        holding[0] = "holding nothing"
        async with asyncio.timeout(main._NOTIFY_INTERVAL_MAX_S - 1):
            assert await said.get() == ("WATCHDOG=1", "STATUS=holding nothing")
        assert said.empty()
    finally:
        telling.cancel()


def test_a_refused_protection_of_the_memory_is_not_passed_over(monkeypatch):
    class Refuses:
        def prctl(self, *_arguments):
            return -1

    monkeypatch.setattr(secrecy.resource, "setrlimit", lambda *_a: None)
    monkeypatch.setattr(secrecy.ctypes, "CDLL", lambda *_a, **_k: Refuses())
    with pytest.raises(OSError, match="PR_SET_DUMPABLE"):
        secrecy.forbid_core_dumps()


def test_marked_processes_are_found_killed_and_left_alone_otherwise():
    marked = ProcessSets(None, "no cgroup", "salt").get("mail.x.service")
    assert isinstance(marked, MarkedSet) and marked.join_files() == ()
    mine = subprocess.Popen(["sleep", "1000"], env=marked.environment())
    other = subprocess.Popen(["sleep", "1000"], env={cgroups.MARKER: "salt/mail.x.services"})
    try:
        while Path(f"/proc/{mine.pid}/comm").read_text() != "sleep\n":
            continue
        while Path(f"/proc/{other.pid}/comm").read_text() != "sleep\n":
            continue
        assert mine.pid in marked.pids() and other.pid not in marked.pids()
        marked.signal(signal.SIGTERM)
        assert mine.wait(5) == -signal.SIGTERM
        assert other.poll() is None and marked.pids() == []
    finally:
        for process in (mine, other):
            process.kill()
            process.wait()


def test_a_set_that_cannot_be_seen_is_not_signalled(monkeypatch, caplog):
    def unseen(_self):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(CgroupSet, "pids", unseen)
    CgroupSet(Path("/sys/fs/cgroup/none"), "x").signal(signal.SIGTERM)
    assert "cannot be seen" in caplog.text


def test_without_a_hierarchy_processes_are_marked(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroups, "_candidates", lambda: [("v2", tmp_path / "no" / "cgroup")])
    found = cgroups.detect(tmp_path)
    assert not found.by_cgroup and "is no cgroup" in found.detail
    (tmp_path / "file").touch()
    monkeypatch.setattr(cgroups, "_candidates", lambda: [("v2", tmp_path / "file")])
    assert "by an environment mark only" in cgroups.detect(tmp_path).detail
    found.remove()


def test_a_watchdog_that_cannot_be_closed_or_fed_says_so(tmp_path, monkeypatch, caplog):
    (tmp_path / "dog").touch()

    def refuse(_fd, number, data):
        if number == watchdog.WDIOC_KEEPALIVE:
            raise OSError(5, "Input/output error")
        return b"\5\0\0\0" if len(data) == 4 else data

    dog = watchdog.Watchdog(str(tmp_path / "dog"), 5, refuse)
    dog.arm()
    dog.feed()
    assert dog.status().armed, "a write is food as well"

    def full(_fd, _data):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(watchdog.os, "write", full)
    dog.feed()
    assert "cannot be fed" in dog.status().detail and not dog.status().armed
    dog.disarm()
    assert "cannot be disarmed" in caplog.text
