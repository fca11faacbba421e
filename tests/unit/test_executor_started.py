"""A start that says that it worked is believed only as far as the kernel, or a second question, bears it out."""

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from executor_world import root_folder, world, write_agent

from hamail.executor import presence, verify
from hamail.executor.kinds import MountPoint
from hamail.model.actions import GroupDown, GroupStartFailed, GroupUp, ResourceRestarted, RestartResource, StopGroup
from hamail.ocf import claim as claims
from hamail.ocf.claim import Claim

pytestmark = pytest.mark.root
AGENTS = Path(__file__).parents[2] / "agents"
CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x20000
VIP = "192.0.2.77"
SCRIPT = """\
#!/bin/sh
case $1 in
meta-data) echo '<resource-agent name="x"><parameters>{parameters}</parameters><actions/></resource-agent>';;
start) eval "$OCF_RESKEY_does";;
stop) eval "${{OCF_RESKEY_undoes:-:}}";;
monitor) [ "$OCF_RESKEY_CRM_meta_interval" != 0 ] || exit 7; exit ${{OCF_RESKEY_says:-7}};;
esac
"""
NAMES = ("address", "ip", "interface", "device", "directory", "claim", "does", "undoes", "says")


async def script(w, provider, name, *, without=""):
    """Written once the agent server answers: it cannot import what is no Python, and says so."""
    assert (await w.clean(w.group(w.resource("other"), name="other"))).ok
    parameters = "".join(f'<parameter name="{n}"/>' for n in NAMES if n != without)
    write_agent(w.folder / "agents", provider, name, SCRIPT.format(parameters=parameters))


@pytest.fixture
def folder():
    with root_folder() as made:
        yield made


@pytest.fixture
def network():
    """A network of this thread's own, with the interfaces v0 and v1."""
    with unshared("net", CLONE_NEWNET):
        sh("ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up")
        yield


@contextlib.contextmanager
def unshared(kind, flag):
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY)
    assert libc.unshare(flag) == 0
    try:
        yield
    finally:
        assert libc.setns(before, flag) == 0
        os.close(before)


def sh(words):
    subprocess.run(words, shell=True, check=True)


async def outcome(w, agent, **parameters):
    """ "up", or why the group did not start; it is stopped and verified either way."""
    w.epoch = getattr(w, "epoch", 0) + 1
    group = w.group(w.resource("x", agent=agent, parameters=parameters))
    assert (await w.clean(group)).ok
    assert w.start(group, w.epoch) == ""
    found = await w.wait_for(GroupUp | GroupStartFailed)
    if isinstance(found, GroupUp):
        assert w.ask(StopGroup, group="mail", epoch=w.epoch, why="test") == ""
        await w.wait_for(GroupDown)
        return "up"
    assert found.clean and found.resource == "x"
    assert w.executor.welcome().groups == {}
    return found.detail.removeprefix("its start said that it worked, but ")


# -- addresses ---------------------------------------------------------------------------------------------------------


async def test_an_address_that_is_not_there_was_not_started(network, folder):
    async with world(folder) as w:
        await script(w, "hamail", "vip")
        await script(w, "heartbeat", "IPaddr2")
        there, gone = (f"ip address {what} {VIP}/24 dev v1" for what in ("add", "del"))
        assert await outcome(w, "hamail:vip", address=f"{VIP}/24", interface="v0", does=":") == (
            f"address {VIP} is not on v0"
        )
        wrong = {"address": f"{VIP}/24", "interface": "v0", "does": there, "undoes": gone}
        assert await outcome(w, "hamail:vip", **wrong) == f"address {VIP} is not on v0"
        assert await outcome(w, "hamail:vip", **wrong | {"interface": "v1"}) == "up"
        assert await outcome(w, "heartbeat:IPaddr2", ip=VIP, does=":", says="0") == (
            f"address {VIP} is not on this node"
        )
        assert await outcome(w, "heartbeat:IPaddr2", ip=VIP, does=there, undoes=gone) == "up"


# -- file systems ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def device(folder, name):
    file = folder / name
    with file.open("wb") as made:
        made.truncate(8 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(file)], check=True)
    done = subprocess.run(["losetup", "-f", "--show", str(file)], check=True, capture_output=True, text=True)
    try:
        yield done.stdout.strip()
    finally:
        subprocess.run(["losetup", "-d", done.stdout.strip()], check=False)


def claimed(folder, node, epoch=1):
    """Shell words that put a claim on what is mounted at `mail`."""
    text = json.dumps({"cluster": "test", "group": "mail", "epoch": epoch, "node": node})
    return f"printf %s '{text}' > {folder}/mail/{claims.NAME}"


async def test_a_file_system_is_mounted_writable_from_its_device_and_claimed(folder):
    here = folder / "mail"
    here.mkdir()
    async with world(folder) as w:
        await script(w, "hamail", "filesystem")
        with device(folder, "a") as a, device(folder, "b") as b:
            mounted = f"mount {a} {here}"

            async def start(does):
                return await outcome(
                    w, "hamail:filesystem", device=a, directory=str(here), does=does, undoes=f"umount {here} || :"
                )

            assert await start(":") == f"nothing is mounted at {here}"
            assert await start(f"mount {b} {here}") == f"{here} carries {b}, not {a}"
            assert await start(f"mount -o ro {a} {here}") == f"{here} is mounted read-only"
            assert await start(mounted) == "the storage is not claimed"
            assert await start(f"{mounted}; {claimed(folder, 'n2', 9)}") == (
                "the storage is claimed for mail by n2 under epoch 9"
            )
            assert await start(f"{mounted}; {claimed(folder, 'n2', w.epoch + 1)}") == (
                f"the storage is claimed for mail by n2 under epoch {w.epoch}"
            )
            assert await start(f"{mounted}; {claimed(folder, 'n1', w.epoch)}") == (
                f"the storage is claimed for mail by n1 under epoch {w.epoch - 1}"
            )
            assert await start(f"{mounted}; {claimed(folder, 'n1', w.epoch + 1)}") == "up"


async def test_our_own_agent_claims_it_for_this_grant(folder):
    """The real agent below the real executor: what the one says is what the other looks for."""
    (folder / "agents" / "hamail").mkdir(parents=True)
    shutil.copy(AGENTS / "filesystem", folder / "agents" / "hamail" / "filesystem")
    here = folder / "mail"
    with device(folder, "a") as a:
        given = {"device": a, "directory": str(here), "device_check": "off"}
        async with world(folder) as w:
            assert await outcome(w, "hamail:filesystem", **given) == "up"
        assert claims.peek(a, "ext4") == Claim(cluster="test", group="mail", epoch=1, node="n1")


async def test_what_claims_nothing_is_not_asked_for_a_claim(folder):
    here = folder / "mail"
    here.mkdir()
    with device(folder, "a") as a:
        given = {"device": a, "directory": str(here), "does": f"mount {a} {here}", "undoes": f"umount {here}"}
        async with world(folder) as w:
            await script(w, "hamail", "filesystem")
            await script(w, "heartbeat", "Filesystem")
            assert await outcome(w, "hamail:filesystem", **given, claim="off") == "up"
            assert await outcome(w, "heartbeat:Filesystem", **given) == "up"
            await script(w, "hamail", "filesystem", without="claim")
            assert await outcome(w, "hamail:filesystem", **given) == "up"


async def test_a_mount_of_others_that_the_kernel_does_not_show_is_asked_for(folder):
    async with world(folder) as w:
        await script(w, "heartbeat", "Filesystem")
        given = {"device": "-U 5f0c", "directory": str(folder / "link"), "does": ":"}
        assert "not running" in await outcome(w, "heartbeat:Filesystem", **given)
        assert await outcome(w, "heartbeat:Filesystem", **given, says="0") == "up"
        assert "failed" in await outcome(w, "heartbeat:Filesystem", **given, says="1"), "the kernel shows most mounts"


async def test_a_claim_that_cannot_be_read_in_time_is_none(monkeypatch, tmp_path):
    released = threading.Event()
    monkeypatch.setattr(claims, "load", lambda _directory: released.wait(10) and None)
    ours = Claim(cluster="c", group="mail", epoch=1, node="n1")
    assert "no answer in time" in await presence.claim_wrong(MountPoint("/dev/hung", str(tmp_path)), ours)
    released.set()


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/dev/zero"), os.mkfifo])
def test_what_others_put_in_place_of_the_claim_is_no_claim(tmp_path, make):
    make(tmp_path / claims.NAME)
    ours = Claim(cluster="c", group="mail", epoch=1, node="n1")
    assert presence._claim_wrong(str(tmp_path), ours)


def test_the_mounts_and_files_of_the_machine_count(monkeypatch, folder):
    """Where systemd gives the executor a mount namespace of its own."""
    here = folder / "mail"
    here.mkdir()
    with device(folder, "a") as a:
        sh(f"mount {a} {here}; {claimed(folder, 'n1')}")
        try:
            monkeypatch.setenv("HAMAIL_MOUNTS_OF", str(os.getppid()))
            looked = []

            def look():
                with unshared_mounts():
                    sh(f"umount {here}")
                    looked.append(presence.mount_wrong(MountPoint(a, str(here))))
                    ours = Claim(cluster="test", group="mail", epoch=1, node="n1")
                    looked.append(presence._claim_wrong(f"/proc/{os.getppid()}/root{here}", ours))

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            assert looked == ["", ""]
        finally:
            sh(f"umount {here}")


@contextlib.contextmanager
def unshared_mounts():
    """Of the calling thread, which ends with it."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x200) == 0  # CLONE_FS: a thread that shares its root cannot have mounts of its own
    assert libc.unshare(CLONE_NEWNS) == 0
    sh("mount --make-rprivate /")
    yield


# -- services ----------------------------------------------------------------------------------------------------------


async def test_a_service_of_ours_lives_after_its_start(folder):
    async with world(folder) as w:
        await script(w, "hamail", "thing")
        assert await outcome(w, "hamail:thing", does=":") == "nothing of it runs"
        assert await outcome(w, "hamail:thing", does="sleep 1000 >&- 2>&- &") == "up"
        # a unit that is not made of processes, such as a mount or a target: only its agent can know
        assert await outcome(w, "hamail:thing", does="echo hamail-cgroup: x.target") == "up"


async def test_a_service_of_others_is_asked_once_where_the_kernel_shows_nothing(folder):
    async with world(folder) as w:
        await script(w, "heartbeat", "thing")
        assert "not running" in await outcome(w, "heartbeat:thing", does=":")
        assert await outcome(w, "heartbeat:thing", does="sleep 1000 >&- 2>&- &") == "up", "it is not even asked"
        assert await outcome(w, "heartbeat:thing", does=":", says="0") == "up"
        assert await outcome(w, "heartbeat:thing", does=":", says="3") == "up", "it has no monitor"
        assert await outcome(w, "heartbeat:thing", does=":", says="1") == "up", "later monitors tell of that"


async def test_a_restart_that_did_nothing_has_failed(folder):
    flag = folder / "flag"
    async with world(folder) as w:
        await script(w, "hamail", "thing")
        does = f"[ -e {flag} ] || sleep 1000 >&- 2>&- & touch {flag}"
        group = w.group(w.resource("x", agent="hamail:thing", parameters={"does": does}))
        assert (await w.clean(group)).ok
        assert w.start(group) == ""
        await w.wait_for(GroupUp)
        assert w.ask(RestartResource, group="mail", epoch=1, resource="x") == ""
        told = await w.wait_for(ResourceRestarted)
        assert not told.ok and "its start said that it worked, but nothing of it runs" in told.detail


async def test_what_cannot_be_seen_was_not_started(folder, monkeypatch):
    def blind(*_any):
        raise OSError(24, "Too many open files")

    async with world(folder) as w:
        await script(w, "hamail", "thing")
        group = w.group(w.resource("x", agent="hamail:thing", parameters={"does": ":"}))
        monkeypatch.setattr(verify, "processes_left", blind)
        w.executor._cleaned["mail"] = group
        assert w.start(group) == ""
        failed = await w.wait_for(GroupStartFailed)
        assert "what is there cannot be seen: Too many open files" in failed.detail and not failed.clean
        monkeypatch.undo()


def test_names_of_devices(tmp_path):
    assert presence.mount_wrong(MountPoint("/dev/null", "/")) == "/dev/null is no block device any more"
    assert not Path(tmp_path / claims.NAME).exists() and claims.load(str(tmp_path)) is None
