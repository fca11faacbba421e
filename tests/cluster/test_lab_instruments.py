"""The lab's own instruments: what they claim to break is really broken, and what they leave alone works."""

import subprocess
import sys
import textwrap
import time

import pytest

from tests.lab.image import POSTFIX_UNIT
from tests.lab.lab import Lab
from tests.lab.node import NodeError
from tests.lab.pdu import SLOW_S, Mode

MOUNT = "mountpoint -q /srv/mail || mount -t ext4 /dev/lun /srv/mail"
ARM = """python3 - <<'END'
import fcntl, os, struct, subprocess, sys
device = os.open('/dev/watchdog', os.O_WRONLY)
fcntl.ioctl(device, 0xC0045706, struct.pack('i', 2))
os.write(device, b'1')
os.set_inheritable(device, True)
holder = subprocess.Popen(['sleep', '600'], pass_fds=[device], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, start_new_session=True)
open('/run/holder', 'w').write(str(holder.pid))
END"""
DISARM = "kill $(cat /run/holder); sleep 0.2; printf V >/dev/watchdog"


def until(condition, seconds: float) -> float:
    """How long it took; fails the test when it takes longer."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - started


def answers(lab: Lab, source: str, target: str) -> bool:
    ping = f"ping -q -c 1 -W 1 {lab.addresses.v4(target)}"
    return lab.run(source, ping, check=False).returncode == 0


def fence(lab: Lab, node: str, action: str, timeout_s: float = 15, **options: str) -> subprocess.CompletedProcess:
    given = {
        "action": action,
        "ip": lab.addresses.v4("pdu"),
        "username": "hamail",
        "password": lab.pdu_password_file.read_text().strip(),
        **options,
    }
    lines = "".join(f"{key}={value}\n" for key, value in given.items())
    return lab.nodes[node].run(["/usr/sbin/fence_lab"], check=False, timeout_s=timeout_s, input=lines)


def in_client(lab: Lab, body: str) -> str:
    """Run Python on the client's side of the switch."""
    return lab.run("client", ["/usr/bin/env", "python3", "-c", textwrap.dedent(body)], timeout_s=30).stdout


def test_nodes_are_real_machines(bare: Lab) -> None:
    boot_ids = set()
    for name, node in bare.nodes.items():
        assert node.run("hostname").stdout.strip() == name
        assert node.run("cat /proc/1/comm").stdout.strip() == "systemd"
        assert node.run("systemctl is-system-running").stdout.strip() == "running"
        assert node.run("ls /sys/class/net").stdout.split() == ["eth0", "lo"]
        boot_ids.add(node.run("cat /etc/machine-id").stdout)
    assert len(boot_ids) == 3
    assert all(answers(bare, "client", name) for name in bare.nodes)


def test_power_cut_loses_what_was_not_synced(bare: Lab) -> None:
    node = bare.nodes["n1"]
    node.run(MOUNT)
    node.run("echo kept >/srv/mail/synced; sync; echo lost >/srv/mail/unsynced")
    started = time.monotonic()
    node.cut()
    assert time.monotonic() - started < 2
    assert not node.powered
    with pytest.raises(NodeError, match="is off"):
        node.run("true")
    assert not answers(bare, "client", "n1")
    node.on()
    node.run(MOUNT)
    assert node.run("ls /srv/mail").stdout.split() == ["box", "lost+found", "queue", "synced"]
    node.run("umount /srv/mail")


def test_cut_and_on_may_be_asked_for_twice(bare: Lab) -> None:
    bare.cut("n2")
    bare.cut("n2")
    bare.on("n2")
    generation = bare.nodes["n2"].generation
    bare.on("n2")
    assert bare.nodes["n2"].generation == generation


def test_reboot_from_inside(bare: Lab) -> None:
    node = bare.nodes["n3"]
    generation = node.generation
    node.run("systemctl reboot -ff", check=False, timeout_s=20)
    until(lambda: node.generation > generation, 10)
    node.wait_booted()
    assert answers(bare, "client", "n3")


def test_power_off_from_inside_is_off(bare: Lab) -> None:
    node = bare.nodes["n1"]
    node.run("systemctl poweroff --no-block", check=False)
    until(lambda: not node.powered, 20)
    node.on()


def test_mail_through_the_distribution_s_units(bare: Lab) -> None:
    node, vip = bare.nodes["n1"], bare.addresses.vip
    node.run(MOUNT)
    started = time.monotonic()
    node.run(f"systemctl start dovecot.service & systemctl start {POSTFIX_UNIT}; wait; systemctl is-active dovecot")
    node.run(f"ip addr add {vip}/24 dev eth0")
    print(f"services started in {time.monotonic() - started:.2f} s")
    sent = in_client(
        bare,
        f"""
        import smtplib, imaplib, time
        s = smtplib.SMTP({vip!r}, 25, timeout=5)
        s.sendmail('a@client.lab', ['bob@example.test'], 'Subject: one\\r\\n\\r\\nhello\\r\\n'); s.quit()
        for _ in range(100):
            i = imaplib.IMAP4({vip!r}, timeout=5); i.login('bob@example.test', 'x'); i.select()
            found = i.search(None, 'ALL')[1][0].split(); i.logout()
            if found: break
            time.sleep(0.05)
        print(len(found))""",
    )
    assert sent.strip() == "1"
    node.run(f"systemctl stop dovecot {POSTFIX_UNIT}; ip addr del {vip}/24 dev eth0; umount /srv/mail")


@pytest.mark.parametrize("resets", [False, True])
def test_watchdog_that_is_not_fed_cuts_the_power(bare: Lab, resets: bool) -> None:
    node = bare.nodes["n1"]
    bare.watchdog_resets = resets
    generation = node.generation
    node.run(ARM)
    assert node.run("cat /dev/watchdog", check=False).returncode, "a second open must be refused"
    if resets:
        until(lambda: node.generation > generation, 6)
        node.wait_booted()
    else:
        assert 1 < until(lambda: not node.powered, 6) < 4
    assert "watchdog expired" in node.log.read_text()


def test_watchdog_goes_with_magic_close_only(bare: Lab) -> None:
    node = bare.nodes["n2"]
    node.run(ARM)
    node.run(DISARM)
    time.sleep(3)
    assert node.powered
    node.run(ARM)
    node.run("kill $(cat /run/holder)")  # closed without the magic: it stays armed
    until(lambda: not node.powered, 6)


def test_paused_guest_stops_its_watchdog_too(bare: Lab) -> None:
    node = bare.nodes["n2"]
    node.run(ARM)
    node.freeze(pause_watchdog=True)
    assert answers(bare, "client", "n2"), "the kernel of a frozen node still answers"
    time.sleep(4)
    assert node.powered
    node.thaw()
    until(lambda: not node.powered, 6)


def test_fence_agent_cuts_and_restores_the_power(bare: Lab) -> None:
    assert '<action name="off"' in fence(bare, "n2", "metadata").stdout
    assert fence(bare, "n2", "list").stdout == "n1,n1\nn2,n2\n"
    assert fence(bare, "n2", "monitor").returncode == 0
    assert fence(bare, "n2", "status", plug="n1").returncode == 0
    started = time.monotonic()
    assert fence(bare, "n2", "off", plug="n1").returncode == 0
    print(f"fenced in {time.monotonic() - started:.3f} s")
    assert not bare.nodes["n1"].powered
    assert fence(bare, "n2", "status", plug="n1").returncode == 2
    assert fence(bare, "n2", "off", plug="n1").returncode == 0, "off is off"
    assert fence(bare, "n2", "on", port="n1").returncode == 0
    bare.nodes["n1"].wait_booted()
    generation = bare.nodes["n1"].generation
    assert fence(bare, "n2", "reboot", plug="n1").returncode == 0
    assert bare.nodes["n1"].generation == generation + 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"password": "wrong", "plug": "n1"}, "login denied"),
        ({"plug": "n9"}, "no plug n9"),
        ({}, "parameter plug is missing"),
        ({"ip": "127.0.0.1", "plug": "n1"}, "refused"),
    ],
)
def test_fence_agent_refuses(bare: Lab, options: dict[str, str], reason: str) -> None:
    result = fence(bare, "n2", "off", **options)
    assert result.returncode == 1
    assert reason in result.stderr
    assert bare.nodes["n1"].powered


@pytest.mark.parametrize("mode", [Mode.FAIL, Mode.HANG, Mode.LIE])
def test_broken_pdu_is_a_failed_fence(bare: Lab, mode: Mode) -> None:
    bare.pdu_mode = mode
    assert fence(bare, "n2", "off", plug="n1", power_timeout="1", shell_timeout="1").returncode == 1
    assert bare.nodes["n1"].powered


def test_slow_pdu(bare: Lab) -> None:
    bare.pdu_mode = Mode.SLOW
    started = time.monotonic()
    assert fence(bare, "n2", "off", plug="n1", shell_timeout="5").returncode == 0
    assert time.monotonic() - started > SLOW_S
    assert not bare.nodes["n1"].powered


def test_partition_one_way_and_whole(bare: Lab) -> None:
    assert answers(bare, "n1", "n2"), "and both now know the other's MAC address"
    listener = bare.nodes["n1"].popen(
        ["python3", "-c", "import socket;s=socket.socket(2,2);s.bind(('',9999));s.settimeout(5);print(s.recv(9))"],
        stdout=subprocess.PIPE,
    )
    bare.drop("n1", "n2")
    until(lambda: "9999" in bare.run("n1", "ss -lun").stdout, 5)
    datagram = f"import socket;socket.socket(2,2).sendto(b'x',('{bare.addresses.v4('n1')}',9999))"
    bare.run("n2", ["python3", "-c", datagram])
    assert "b'x'" in listener.communicate(timeout=10)[0], "the other way is open"
    assert not answers(bare, "n1", "n2")
    assert answers(bare, "n1", "n3")
    bare.heal()
    bare.partition("n1", ["n2", "n3"])
    assert not answers(bare, "n1", "n2")
    assert not answers(bare, "n3", "n1")
    assert answers(bare, "n2", "n3")
    assert answers(bare, "client", "n1")
    bare.heal()
    assert answers(bare, "n1", "n2")


def test_isolated_node_keeps_its_carrier_and_an_unplugged_one_does_not(bare: Lab) -> None:
    carrier = "cat /sys/class/net/eth0/carrier"
    bare.isolate("n1")
    assert not answers(bare, "client", "n1")
    assert fence(bare, "n1", "monitor", shell_timeout="1").returncode == 1
    assert bare.run("n1", carrier).stdout.strip() == "1"
    bare.heal()
    bare.switch.unplug("n1")
    assert bare.run("n1", carrier).stdout.strip() == "0"
    bare.heal()
    until(lambda: answers(bare, "client", "n1"), 5)


def test_lost_and_hung_lun(bare: Lab) -> None:
    node = bare.nodes["n2"]
    node.run(MOUNT)
    node.run("echo x >/srv/mail/x; sync")
    bare.san_hang("n2")
    writer = node.popen(["sh", "-c", "echo y >/srv/mail/y; sync /srv/mail/y"])
    until(lambda: "D" in node.run("ps -C sync -o stat=", check=False).stdout, 10)
    bare.san_resume("n2")
    assert writer.wait(10) == 0
    bare.san_off("n2")
    assert node.run("echo z >/srv/mail/z; sync /srv/mail/z", check=False, timeout_s=10).returncode
    bare.restore()
    node.run(MOUNT)
    assert node.run("ls /srv/mail").stdout.split() == ["box", "lost+found", "queue", "synced", "x", "y"]
    node.run("umount /srv/mail")


def test_down_leaves_no_trace_even_of_a_lab_whose_maker_was_killed() -> None:
    command = [sys.executable, "-m", "tests.lab", "--lab", "crash", "up"]
    maker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    lab = Lab("crash")
    until(lambda: lab.nodes["n1"].powered, 120)
    maker.kill()
    maker.wait()
    Lab("crash").down()
    assert not lab.folder.exists()
    traces = {
        "ip netns list": "hamail-crash-",
        "cat /proc/mounts": str(lab.folder),
        "losetup -a": str(lab.folder),
        "find /sys/fs/cgroup -maxdepth 2 -name 'hamail-*'": "hamail-crash-",
        "ps -eo args": str(lab.folder),
    }
    for look, trace in traces.items():
        found = subprocess.run(look, shell=True, capture_output=True, text=True, check=False).stdout
        assert not [line for line in found.splitlines() if trace in line], look
