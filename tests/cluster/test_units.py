"""The systemd units as installed: what they protect, and that what the executor mounts is seen by the mail services."""

import re

import pytest

from tests.lab.image import POSTFIX_UNIT
from tests.lab.lab import Lab

# A mount namespace of the agents' own would hide the mail store from the services, which rules out most of the options
# that systemd-analyze counts; see the unit.
EXPOSURE = {"hamaild.service": 1.5, "hamail-executor.service": 4.0, "hamail-agents.service": 6.0}

STAND_IN = """\
[Service]
Type=notify
ExecStart=
ExecStart=/bin/sh -c 'mount -t ext4 /dev/lun /srv/mail && systemd-notify --ready && exec sleep infinity'
ExecStopPost=/bin/umount /srv/mail
WatchdogSec=0
NotifyAccess=all
Restart=no
"""


@pytest.mark.parametrize("unit", EXPOSURE)
def test_exposure(bare: Lab, unit: str) -> None:
    report = bare.run("n1", f"systemd-analyze security --no-pager {unit} | tail -n 1").stdout
    assert float(re.search(r"(\d+\.\d)", report).group(1)) <= EXPOSURE[unit], report


@pytest.mark.parametrize("unit", EXPOSURE)
def test_unit_file_is_understood(bare: Lab, unit: str) -> None:
    result = bare.run("n1", f"systemd-analyze verify --man=no /usr/lib/systemd/system/{unit}", check=False)
    assert unit not in result.stderr


def test_what_the_agents_unit_mounts_is_seen_by_postfix_and_dovecot(bare: Lab) -> None:
    node = bare.nodes["n1"]
    place = "/run/systemd/system/hamail-agents.service.d"
    node.run(["sh", "-c", f"mkdir -p {place}; cat >{place}/stand-in.conf; systemctl daemon-reload"], input=STAND_IN)
    try:
        node.run("systemctl start hamail-agents.service")
        assert "ext4" in node.run("findmnt -no FSTYPE /srv/mail").stdout
        node.run(f"systemctl start {POSTFIX_UNIT} dovecot.service")
        for service in (POSTFIX_UNIT, "dovecot.service"):
            group = f"$(systemctl show -P ControlGroup {service})/cgroup.procs"  # below one of the two, by the host
            first = f"cat /sys/fs/cgroup/systemd{group} /sys/fs/cgroup{group} 2>/dev/null | head -n 1"
            table = node.run(f"cat /proc/$({first})/mountinfo").stdout
            assert " /srv/mail " in table, f"{service} does not see the mount"
        node.run(f"systemctl stop {POSTFIX_UNIT} dovecot.service && systemctl stop hamail-agents.service")
        assert node.run("mountpoint -q /srv/mail", check=False).returncode
    finally:
        node.run(f"systemctl stop {POSTFIX_UNIT} dovecot.service 'hamail-agents.*'", check=False)
        node.run(f"rm -rf {place}; systemctl daemon-reload; mountpoint -q /srv/mail && umount /srv/mail", check=False)


def test_installation(bare: Lab) -> None:
    node = bare.nodes["n1"]
    assert node.run("stat -c '%U %a' /var/lib/hamail").stdout.strip() == "hamail 700"
    assert node.run("stat -c '%U %G %a' /etc/hamail/pki/node.key").stdout.strip() == "root hamail 640"
    for script in node.run("ls -d /usr/lib/ocf/resource.d/hamail/*").stdout.split():
        assert node.run(f"stat -c '%U %a' {script}").stdout.strip() == "root 755"
        assert node.run(f"head -n 1 {script}").stdout.startswith("#!/usr/lib/hamail/bin/python -I")
    assert node.run("hamailctl --help").returncode == 0


def test_ocf_tester_passes_on_the_systemd_agent(bare: Lab) -> None:
    """Where systemd really runs; the other agents are tried in tests/unit."""
    node = bare.nodes["n1"]
    unit = "[Service]\nExecStart=/bin/sleep infinity\n"
    node.run(["sh", "-c", "cat >/run/systemd/system/sleeper.service; systemctl daemon-reload"], input=unit)
    try:
        agent = "/usr/lib/ocf/resource.d/hamail/systemd"
        tried = node.run(f"ocf-tester -n sleeper -o unit=sleeper.service {agent}", check=False)
        assert tried.returncode == 0, tried.stdout + tried.stderr
        assert "passed all tests" in tried.stdout
    finally:
        node.run("systemctl stop sleeper; rm /run/systemd/system/sleeper.service; systemctl daemon-reload", check=False)
