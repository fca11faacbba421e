"""A hamaild that is no longer ours: what it cannot make the root executor do, over the executor's real socket.

The executor and its agent server are real processes with the policy of a real node.toml; the agents write down that
they were run. Every test asks for something that root must not do, and shows that it was refused and not done.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from executor_world import Client, root_folder, service_agent, write_agent
from test_executor_main import Process, remove_leftovers

from hamail.config.allow import Allow
from hamail.executor import bounds
from hamail.executor.clock import boottime_ns
from hamail.executor.policy import Policy
from hamail.executor.spawn import Spawn
from hamail.model.actions import (
    CheckFence,
    Cleaned,
    CleanUp,
    Configure,
    FenceChecked,
    FenceResult,
    Prepare,
    Refused,
    RunFence,
    StartGroup,
    StopGroup,
)
from hamail.model.spec import GroupSpec, ResourceSpec
from hamail.model.state import Evidence

pytestmark = pytest.mark.root
S = 10**9
NOBODY = 65534
RECORDING = """#!/bin/sh
[ "$1" = meta-data ] || {{ echo "$1" >>{mark}; env >>{mark}; exit 0; }}
cat <<END
<?xml version="1.0"?><resource-agent name="x" version="1.0"><parameters>
<parameter name="device"><content type="string"/></parameter>
<parameter name="directory"><content type="string"/></parameter>
<parameter name="unit"><content type="string"/></parameter>
<parameter name="config_dir"><content type="string"/></parameter>
<parameter name="probe_password_file"><content type="string"/></parameter>
</parameters><actions><action name="start" timeout="5s"/></actions></resource-agent>
END
"""
FENCE = """#!/bin/sh
input=$(cat)
case "$input" in
*action=metadata*) cat <<END
<?xml version="1.0"?><resource-agent name="fence_x"><parameters><parameter name="plug"/><parameter name="ip"/>
<parameter name="ipmitool_path"/><parameter name="debug_file"/><parameter name="ssh_options"/></parameters>
<actions><action name="off"/><action name="status"/></actions></resource-agent>
END
;;
*) echo "$input" >>{mark} ;;
esac
"""
POLICY = Policy(
    agents=Allow().agents,
    mounts=Allow().mounts,
    units=Allow().units,
    secrets=Allow().secrets,
    fence_parameters=Allow().fence_parameters,
)


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    with root_folder() as folder:
        agents = folder / "agents"
        mark = folder / "was-run"
        write_agent(agents, "hamail", "service", service_agent("service"))
        for provider, kind in (("hamail", "filesystem"), ("hamail", "systemd"), ("hamail", "postfix"), ("other", "x")):
            write_agent(agents, provider, kind, RECORDING.format(mark=mark))
        write_agent(folder, "fence", "fence_x", FENCE.format(mark=mark))
        (folder / "watchdog").touch()
        process = Process(folder)
        process.start()
        try:
            yield process
        finally:
            process.stop()
            process.notify.close()
            remove_leftovers(folder)


@pytest.fixture
async def hostile(process: Process) -> AsyncIterator[Client]:
    client = await Client.connect(process.socket)
    mark(process).unlink(missing_ok=True)
    yield client
    client.writer.close()


def mark(process: Process) -> Path:
    return process.folder / "was-run"


def group(**resources: dict[str, str]) -> GroupSpec:
    made = tuple(
        ResourceSpec(name=name, agent=given["agent"], parameters={k: v for k, v in given.items() if k != "agent"})
        for name, given in resources.items()
    )
    return GroupSpec(name="mail", nodes=("n1", "n2"), resources=made)


async def asked(client: Client, spec: GroupSpec) -> str:
    """Everything that makes the executor run the agents of a group; what it says about the first of them."""
    client.send(Configure(id=1, cluster="c", groups=(spec,)))
    client.send(Prepare(id=2, group=spec))
    client.send(CleanUp(id=3))
    told = await client.next(Cleaned)
    now = boottime_ns()
    client.send(
        StartGroup(id=4, group=spec, epoch=9, soft_ns=now + 9 * S, hard_ns=now + 9 * S, evidence=Evidence.NEVER_OWNED)
    )
    return told.detail


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"agent": "other:x"}, "agent other:x is not allowed on this node"),
        ({"agent": "ocf:other:x"}, "not allowed on this node"),
        ({"agent": "../../bin:sh"}, "no agent name"),
        ({"agent": "hamail:../../../bin/sh"}, "no agent name"),
        ({"agent": "hamail:.."}, "no agent name"),
        ({"agent": "hamail:x\n"}, "no agent name"),
        ({"agent": "hamail:service", "LD_PRELOAD": "/tmp/x.so"}, "has no parameter LD_PRELOAD"),
        ({"agent": "hamail:systemd", "unit": "ssh.service"}, "may not be moved by hamail"),
        ({"agent": "hamail:systemd", "unit": "debug-shell.service"}, "may not be moved by hamail"),
        ({"agent": "hamail:systemd", "unit": "poweroff.target"}, "may not be moved by hamail"),
        ({"agent": "hamail:systemd", "unit": "postfix.target"}, "may not be moved by hamail"),
        ({"agent": "hamail:systemd", "unit": "nftables"}, "may not be moved by hamail"),
        ({"agent": "hamail:postfix", "unit": "user.slice"}, "may not be moved by hamail"),
        ({"agent": "hamail:filesystem", "device": "/dev/x", "directory": "/etc"}, "nothing may be mounted at /etc"),
        ({"agent": "hamail:filesystem", "device": "/dev/x", "directory": "/"}, "no plain absolute path"),
        ({"agent": "hamail:filesystem", "device": "/dev/x", "directory": "/srv/../etc"}, "no plain absolute path"),
        ({"agent": "hamail:filesystem", "device": "/dev/x", "directory": "//srv"}, "no plain absolute path"),
        ({"agent": "hamail:filesystem", "device": "/home/x/disk", "directory": "/srv/m"}, "no device below /dev"),
        ({"agent": "hamail:filesystem", "device": "/dev/../home/x", "directory": "/srv/m"}, "no device below /dev"),
        ({"agent": "hamail:postfix", "config_dir": "/tmp"}, "can be written by others than root"),
        ({"agent": "hamail:postfix", "probe_password_file": "/etc/shadow"}, "not in a folder of secrets"),
        ({"agent": "hamail:postfix", "probe_password_file": "/etc/hamail/secrets/../../shadow"}, "not in a folder"),
    ],
)
async def test_resources_that_reach_too_far(
    process: Process, hostile: Client, given: dict[str, str], said: str
) -> None:
    assert said in await asked(hostile, group(bad=given))
    assert not mark(process).exists(), mark(process).read_text()


@pytest.mark.parametrize(
    ("agent", "parameters", "plug", "secrets", "said"),
    [
        ("/bin/sh", {}, "1", {}, "is no fence agent"),
        ("/sbin/poweroff", {}, "1", {}, "is no fence agent"),
        ("fence_../../bin/sh", {}, "1", {}, "is no fence agent"),
        ("{fence}", {"ipmitool_path": "/tmp/x"}, "1", {}, "can make root run or write anything"),
        ("{fence}", {"debug_file": "/etc/cron.d/x"}, "1", {}, "can make root run or write anything"),
        ("{fence}", {"ssh_options": "-oProxyCommand=id"}, "1", {}, "can make root run or write anything"),
        ("{fence}", {"passwd_script": "/tmp/x"}, "1", {}, "can make root run or write anything"),
        ("{fence}", {"ip": "-oProxyCommand=id"}, "1", {}, "may take for more than a value"),
        ("{fence}", {"ip": "10.0.0.1 -oProxyCommand=id"}, "1", {}, "may take for more than a value"),
        ("{fence}", {"ip": "$(id)"}, "1", {}, "may take for more than a value"),
        ("{fence}", {"ip": "10.0.0.1\naction=on"}, "1", {}, "may take for more than a value"),
        ("{fence}", {"ip": "10.0.0.1"}, "1 -x", {}, "unusual signs"),
        ("{fence}", {"colour": "red"}, "1", {}, "has no parameter colour"),
        ("{fence}", {}, "1", {"password": "/etc/shadow"}, "not in a folder of secrets"),
        ("{fence}", {}, "1", {"password": "/etc/hamail/secrets/../pki/node.key"}, "not in a folder of secrets"),
    ],
)
async def test_fence_orders_that_reach_too_far(
    process: Process,
    hostile: Client,
    agent: str,
    parameters: dict[str, str],
    plug: str,
    secrets: dict[str, str],
    said: str,
) -> None:
    given = {
        "device": "pdu",
        "agent": agent.format(fence=process.folder / "fence" / "fence_x"),
        "parameters": parameters,
        "secret_files": secrets,
        "timeout_ms": 5000,
    }
    hostile.send(RunFence(id=1, order=1, target="n2", plug=plug, **given))
    fenced = await hostile.next(FenceResult)
    assert not fenced.ok and said in fenced.detail and "surely not done" in fenced.detail
    hostile.send(CheckFence(id=2, plugs={"n2": plug}, **given))
    checked = await hostile.next(FenceChecked)
    assert not checked.ok and said in checked.detail
    assert not mark(process).exists(), mark(process).read_text()


async def test_an_agent_that_others_could_have_changed(process: Process, hostile: Client) -> None:
    path = process.folder / "agents" / "hamail" / "filesystem"
    os.chown(path, NOBODY, 0)
    try:
        spec = group(bad={"agent": "hamail:filesystem", "device": "/dev/x", "directory": "/srv/m"})
        assert f"belongs to user {NOBODY}" in await asked(hostile, spec)
    finally:
        os.chown(path, 0, 0)
    assert not mark(process).exists()


async def test_a_link_in_the_way_of_a_mount_point(tmp_path: Path) -> None:
    """Somebody who may write on the way to a mount point must not lead root elsewhere."""
    policy = Policy(agents=(), mounts=(str(tmp_path),), units=(), secrets=(), fence_parameters=())
    (tmp_path / "mail").symlink_to("/etc")
    spec = ResourceSpec(
        name="s", agent="hamail:filesystem", parameters={"device": "/dev/x", "directory": str(tmp_path / "mail")}
    )
    assert "can be written by others" in policy.refuse_resource(spec) or "link" in policy.refuse_resource(spec)


async def test_no_new_line_in_the_executor_s_log(process: Process, hostile: Client) -> None:
    spec = group(good={"agent": "hamail:service", "state": str(process.folder / "s")})
    hostile.send(Configure(id=1, cluster="c", groups=(spec,)))
    hostile.send(CleanUp(id=2))
    assert (await hostile.next(Cleaned)).ok
    now = boottime_ns()
    hostile.send(
        StartGroup(id=3, group=spec, epoch=99, soft_ns=now + 9 * S, hard_ns=now + 9 * S, evidence=Evidence.RELEASED)
    )
    hostile.send(StopGroup(id=4, group="mail", epoch=99, why="x\nCRITICAL forged\x1b[2J"))
    hostile.send(StopGroup(id=5, group="y\nCRITICAL forged", epoch=99, why=""))
    assert "is not configured here" in (await hostile.next(Refused)).why
    await asyncio.sleep(0.2)
    assert "\nCRITICAL forged" not in process.log() and "\x1b" not in process.log()


async def test_a_flood_of_requests_is_bounded(process: Process, hostile: Client) -> None:
    """Each would fork an agent: they are refused long before the machine is full of them."""
    spec = group(slow={"agent": "hamail:service", "state": str(process.folder / "f"), "mode": "ok", "delay": "1"})
    for number in range(600):
        hostile.send(Configure(id=number, cluster="c", groups=(spec,)))
        hostile.send(StopGroup(id=number, group="mail", epoch=1000 + number, why=""))
    assert "more is under way" in (await hostile.next(Refused)).why
    found = subprocess.run(["pgrep", "-f", str(process.folder)], check=False, capture_output=True)
    assert len(found.stdout.split()) < 300


def order(path: str, *arguments: str, join: tuple[str, ...] = (), **environment: str) -> Spawn:
    return Spawn(id=1, path=path, arguments=arguments, environment=environment, join_files=join)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (order("/bin/sh", "-c", "id"), "neither an agent"),
        (order("{a}/hamail/service", "-c"), "one action only"),
        (order("{a}/hamail/service", "start", "x"), "one action only"),
        (order("{a}/hamail/../../../bin/sh", "start"), "neither an agent"),
        (order("{a}/hamail/..", "start"), "neither an agent"),
        (order("/usr/sbin/fence_x", "--help"), "neither an agent"),
        (order("{a}/hamail/service", "start", LD_PRELOAD="/tmp/x"), "LD_PRELOAD"),
        (order("{a}/hamail/service", "start", PYTHONPATH="/tmp"), "PYTHONPATH"),
        (order("{a}/hamail/service", "start", PATH="/tmp:/bin"), "PATH of its own"),
        (order("{a}/hamail/service", "start", join=("/etc/passwd",)), "no control group"),
        (order("{a}/hamail/service", "start", join=("/sys/fs/cgroup/../../../tmp/cgroup.procs",)), "no control group"),
        (order("{a}/hamail/gone", "start"), "No such file"),
    ],
)
def test_what_the_agent_server_does_not_run_for_an_executor_that_is_no_longer_ours(
    process: Process, given: Spawn, said: str
) -> None:
    agents = process.folder / "agents"
    order = Spawn(
        id=1,
        path=given.path.format(a=agents),
        arguments=given.arguments,
        environment=given.environment,
        join_files=given.join_files,
    )
    assert said in bounds.refuse(order, (agents,))


def test_what_an_ordinary_configuration_needs_is_allowed() -> None:
    def resource(agent: str, **parameters: str) -> ResourceSpec:
        return ResourceSpec(name="r", agent=agent, parameters=parameters)

    ordinary = [
        resource("hamail:filesystem", device="/dev/disk/by-uuid/5f0c", directory="/srv/mail"),
        resource("hamail:filesystem", device="UUID=5f0c", directory="/var/vmail"),
        resource("hamail:dovecot", config_file="/etc/passwd", probe_password_file="/etc/hamail/secrets/probe"),
        resource("hamail:postfix", unit="auto"),
        resource("hamail:postfix", unit="postfix@-.service"),
        resource("hamail:systemd", unit="opendkim"),
        resource("hamail:systemd", unit="rspamd.service"),
        resource("hamail:vip", address="10.0.0.100/24", interface="eth0"),
    ]
    for spec in ordinary:
        assert POLICY.refuse_agent(spec.agent) == "" and POLICY.refuse_resource(spec) == "", spec
    parameters = {"ip": "10.0.0.250", "username": "hamail", "lanplus": "true", "cipher": "17", "ipport": "623"}
    secrets = {"password": "/etc/hamail/secrets/pdu"}
    assert POLICY.refuse_fence("fence_ipmilan", parameters, {"n1": "n1"}, secrets) == ""
    assert POLICY.refuse_fence("/usr/sbin/fence_apc_snmp", {"community": "public"}, {"n1": "1"}, secrets) == ""


async def test_root_can_allow_more_in_node_toml() -> None:
    more = Policy(
        agents=("hamail:*", "heartbeat:IPaddr2"),
        mounts=("/big",),
        units=("*",),
        secrets=("/etc/keys",),
        fence_parameters=("ssh_options", "plug"),
    )
    assert more.refuse_agent("ocf:heartbeat:IPaddr2") == "" and more.refuse_agent("heartbeat:anything")
    given = {"ssh_options": "-o X=y"}
    assert more.refuse_fence("fence_virsh", given, {"n1": "my machine"}, {"password": "/etc/keys/x"}) == ""
