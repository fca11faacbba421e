"""A private place to run the real Postfix and Dovecot in: own network, mounts and pids; queue and mail on ext4.

Run as a program inside such a place it tells one story and prints what happened, one JSON line per step.
"""

import imaplib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agents_support import ROOT, call, load, loop_device, meta, sh

from hamail.ocf import unclean

ENTER = ("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-e", "-c")
SETUP = """
mount --make-rprivate /
ip link set lo up
mkdir -p /run/dovecot /run/hamail-agents
for d in /run/dovecot /run/hamail-agents; do mount -t tmpfs none $d; done
mkdir -p $ROOM/mail $ROOM/etc $ROOM/data $ROOM/state
chown postfix $ROOM/data
mount $DEVICE $ROOM/mail
cp -a /etc/postfix/. $ROOM/etc
cp $ROOM/main.cf $ROOM/etc/main.cf
mount --bind $ROOM/etc /etc/postfix
mkdir -p $ROOM/mail/queue $ROOM/mail/box
chown mail:mail $ROOM/mail/box
"$@"
"""
MAIN_CF = """compatibility_level = 3.6
myhostname = mail.example
mydestination = mail.example
mynetworks = 127.0.0.0/8
queue_directory = {room}/mail/queue
data_directory = {room}/data
alias_maps =
alias_database =
inet_interfaces = all
inet_protocols = ipv4
smtpd_tls_security_level = none
"""
DOVECOT_2_3 = """protocols = imap
ssl = no
mail_location = maildir:{room}/mail/box/%u
state_dir = {room}/state
first_valid_uid = 8
log_path = {room}/dovecot.log
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={room}/mail/box/%u
}}
"""
DOVECOT_2_4 = """dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
protocols = imap
ssl = no
mail_driver = maildir
mail_path = {room}/mail/box/%{{user}}
state_dir = {room}/state
first_valid_uid = 8
log_path = {room}/dovecot.log
passdb static {{
  password = secret
}}
userdb static {{
  fields {{
    uid = mail
    gid = mail
    home = {room}/mail/box/%{{user}}
  }}
}}
"""


def dovecot_configuration(room: Path) -> str:
    """In the language of the Dovecot that is installed."""
    version = tuple(map(int, re.findall(r"\d+", sh("/usr/sbin/dovecot", "--version"))[:2]))
    return (DOVECOT_2_4 if version >= (2, 4) else DOVECOT_2_3).format(room=room)


@contextmanager
def mail_room(folder: Path) -> Iterator[dict[str, str]]:
    """Prepare the disk and the configurations; yields the environment for `inside`."""
    image = folder / "mail.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    sh("mkfs.ext4", "-q", "-F", image)
    (folder / "main.cf").write_text(MAIN_CF.format(room=folder))
    (folder / "dovecot.conf").write_text(dovecot_configuration(folder))
    (folder / "password").write_text("secret\n")
    with loop_device(image) as device:
        path = f"{ROOT}:{Path(__file__).parent}"
        yield {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "ROOM": str(folder), "DEVICE": device, "PYTHONPATH": path}


def inside(environ: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program in the place. Whatever it leaves running ends with it."""
    given = [str(w) for w in words]
    return subprocess.run(
        [*ENTER, SETUP, "room", *given], env=environ, capture_output=True, text=True, check=False, timeout=120
    )


def tell(step: str, answer: object) -> None:
    shown = {"step": step, "code": answer.code, "err": answer.err, "watched": answer.watched, "ms": answer.took_ms}
    print(json.dumps(shown), flush=True)


def postfix_parameters(room: str) -> dict[str, str]:
    return {"mount": f"{room}/mail", "unit": "none"}


def dovecot_parameters(room: str) -> dict[str, str]:
    return {
        "config_file": f"{room}/dovecot.conf",
        "mount": f"{room}/mail",
        "unit": "none",
        "probe_user": "joe",
        "probe_password_file": f"{room}/password",
    }


def idle_session(room: str) -> BinaryIO:
    """A client that waits for new mail, as most do all day."""
    link = imaplib.IMAP4("127.0.0.1", timeout=5)
    link.login("joe", Path(room, "password").read_text().strip())
    link.select("INBOX")
    link.send(b"x IDLE\r\n")
    assert link.readline().startswith(b"+")
    return link.file


def story(name: str, room: str) -> None:
    agent = load(name)
    parameters = postfix_parameters(room) if name == "postfix" else dovecot_parameters(room)

    def step(
        title: str, action: str, level: str = "0", evidence: str = "fenced", epoch: str = "", **extra: str
    ) -> list[int]:
        environ = {"OCF_CHECK_LEVEL": level} | meta(evidence=evidence, epoch=epoch)
        answer = call(agent, action, environ, **(parameters | extra))
        tell(title, answer)
        return answer.watched

    step("validate", "validate-all", "10")
    step("not yet", "monitor")
    step("wrong mount", "start", mount="/nowhere")
    step("start", "start")
    step("start again", "start")
    step("shallow", "monitor")
    step("deep", "monitor", "10")
    session = idle_session(room) if name == "dovecot" else None
    step("stop", "stop")
    if session is not None:
        print(json.dumps({"step": "session", "last": session.readline().decode()}))
    step("stop again", "stop")
    step("after stop", "monitor")
    locks = [Path(room, "mail/box", user, "dovecot-uidlist.lock") for user in ("ann", "bob")]
    for lock in locks:
        lock.parent.mkdir()
    locks[0].touch()
    (master,) = step("released", "start", evidence="released", epoch="7")
    if name == "dovecot":
        step("stop of the released", "stop")
        locks[1].touch()
        kept = locks[0].exists()
        unclean.mark(f"{room}/mail", True)  # as the file system's agent does that finds the journal open
        (master,) = step("unclean", "start", evidence="released", epoch="8")
        print(json.dumps({"step": "locks", "kept": kept, "left": [lock.exists() for lock in locks]}))
    os.kill(master, signal.SIGKILL)
    time.sleep(0.1)
    step("master killed", "monitor")
    step("clear", "stop")
    Path(room, "state/instances.lock").touch()  # as of a master that was killed in the first moment of its life
    (master,) = step("restart", "start")
    if name == "postfix":
        master = broken_configuration(step)
    os.killpg(os.getpgid(master), signal.SIGSTOP)
    if name == "dovecot":
        step("frozen master", "stop")
    else:
        step("frozen monitor", "monitor", banner_timeout="1")
        os.killpg(os.getpgid(master), signal.SIGCONT)
        step("last stop", "stop")
    subprocess.run(["umount", f"{room}/mail"], check=True)  # nobody holds the storage any more


def broken_configuration(step: Callable[..., list[int]]) -> int:
    """As when the configuration or the floating IP has gone: `postfix stop` would fail, and leave the master."""
    path = Path("/etc/postfix/main.cf")
    text = path.read_text()
    path.write_text(text.replace("inet_interfaces = all", "inet_interfaces = 192.0.2.1"))
    step("stop with the address gone", "stop")
    step("gone indeed", "monitor")
    path.write_text(text)
    (master,) = step("start with main.cf back", "start")
    return master


if __name__ == "__main__":
    story(sys.argv[1], sys.argv[2])
