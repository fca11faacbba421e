"""Unmistakable secrets are planted; nothing that hamail shows or leaves behind has them."""

import asyncio
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from executor_world import Client, root_folder, service_agent, write_agent
from test_config_cluster import GOOD
from test_executor_main import Process, remove_leftovers

from hamail.config import ConfigError, load_node, parse_cluster
from hamail.executor.trust import Untrusted, read_secret
from hamail.model.actions import CheckFence, FenceChecked, FenceResult, RunFence
from hamail.transport.certificates import CertificateError, Certificates, server_context

CANARY = "canary-9f3ac1d77b"
# It does all that a fence agent should not: it tells the password wherever it can, takes its time, and fails.
TELLTALE = """#!/bin/sh
input=$(cat)
case "$input" in
*action=metadata*) cat <<END
<?xml version="1.0"?><resource-agent name="fence_x"><parameters><parameter name="plug"/><parameter name="ip"/>
<parameter name="password"/></parameters><actions><action name="off"/><action name="status"/></actions></resource-agent>
END
exit 0 ;;
esac
password=$(echo "$input" | sed -n 's/^password=//p')
sleep 0.3
echo "login with $password was refused"
echo "cannot log in as x with password '$password' ($input)" | tr '\\n' ' ' >&2
echo >&2
exit 1
"""


@pytest.fixture
def process() -> Iterator[Process]:
    with root_folder() as folder:
        write_agent(folder / "agents", "hamail", "service", service_agent("service"))
        write_agent(folder, "fence", "fence_x", TELLTALE)
        (folder / "watchdog").touch()
        (folder / "secret").write_text(CANARY + "\n")
        (folder / "secret").chmod(0o600)
        process = Process(folder)
        config = folder / "node.toml"
        config.write_text(f'{config.read_text()}log_level = "debug"\n[allow]\nsecrets = ["{folder}"]\n')
        process.start()
        try:
            yield process
        finally:
            process.stop()
            process.notify.close()
            remove_leftovers(folder)


def holders(names: tuple[str, ...]) -> list[str]:
    """Processes of this machine that have the canary in one of these files of theirs below /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        for name in names:
            try:
                if CANARY.encode() in (folder / name).read_bytes():
                    found.append(f"{folder}/{name}")
            except OSError:
                continue
    return found


@pytest.mark.root
async def test_a_fence_device_s_password(process: Process) -> None:
    client = await Client.connect(process.socket)
    given = {
        "device": "pdu",
        "agent": str(process.folder / "fence" / "fence_x"),
        "parameters": {"ip": "10.0.0.1"},
        "secret_files": {"password": str(process.folder / "secret")},
        "timeout_ms": 5000,
    }
    client.send(RunFence(id=1, order=1, target="n2", plug="2", **given))
    seen: list[str] = []
    for _sample in range(10):
        seen += holders(("cmdline", "environ"))
        await asyncio.sleep(0.03)
    fenced = await client.next(FenceResult)
    client.send(CheckFence(id=2, plugs={"n2": "2"}, **given))
    checked = await client.next(FenceChecked)
    client.writer.close()
    assert "***" in fenced.detail and "***" in checked.detail, "the agent was heard, without the secret"
    left = [str(f) for f in (process.folder / "run-executor").iterdir() if f.is_file() and CANARY in f.read_text()]
    assert not seen and not left and CANARY not in process.log() + fenced.detail + checked.detail


@pytest.mark.root
def test_a_planted_leak_would_be_seen() -> None:
    child = subprocess.Popen(["sleep", "5"], env={"PASSWORD": CANARY})
    try:
        assert holders(("environ",))
    finally:
        child.kill()
        child.wait()


@pytest.mark.root
@pytest.mark.parametrize("content", [f"{CANARY}\n".encode() * 400, b"\xff" + CANARY.encode()], ids=["long", "no text"])
def test_a_secret_file_that_cannot_be_used(content: bytes) -> None:
    with root_folder() as folder:
        path = folder / "secret"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(Untrusted) as caught:
            read_secret(path)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("name", ["password", "passwd", "snmp_priv_passwd"])
def test_a_password_in_the_configuration_is_refused_without_being_repeated(name: str) -> None:
    found = re.sub(r"(parameters = \{ ip)", rf'parameters = {{ {name} = "{CANARY}", ip', GOOD, count=1)
    assert CANARY in found
    with pytest.raises(ConfigError) as caught:
        parse_cluster(found, "c.toml")
    assert CANARY not in "".join(f"{p.place} {p.reason}" for p in caught.value.problems)


def test_bad_settings_with_a_secret_in_a_wrong_place(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(f'node = "n1"\npassword = "{CANARY}"\nstate_dir = 4\n')
    with pytest.raises(ConfigError) as caught:
        load_node(tmp_path / "node.toml")
    assert CANARY not in "".join(f"{p.place} {p.reason}" for p in caught.value.problems)


def test_a_private_key_that_cannot_be_read(tmp_path: Path) -> None:
    key = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"
    for name in ("ca.pem", "node.pem", "node.key"):
        (tmp_path / name).write_text(key)
        (tmp_path / name).chmod(0o600)
    with pytest.raises(CertificateError) as caught:
        server_context(Certificates.of(tmp_path))
    assert CANARY not in str(caught.value) + repr(caught.value.__cause__)


def test_no_image_of_the_memory_is_left_behind() -> None:
    script = (
        "import ctypes, os, resource; from hamail.executor.secrecy import forbid_core_dumps; forbid_core_dumps(); "
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3), flush=True); os.abort()"
    )
    before = resource.getrlimit(resource.RLIMIT_CORE)[1]
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert done.stdout.strip() == "(0, 0) 0" and done.returncode == -6, f"hard limit before: {before}; {done.stderr}"


@pytest.mark.root
def test_both_daemons_forbid_it(process: Process) -> None:
    assert process.child is not None
    limits = Path(f"/proc/{process.child.pid}/limits").read_text()
    assert re.search(r"Max core file size\s+0\s+0\s", limits)
    main = Path("hamail/daemon/main.py").read_text()
    assert main.index("forbid_core_dumps()  #") < main.index("asyncio.run(")
