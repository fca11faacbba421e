"""The secrets of a running cluster: looked for everywhere, while a node is being fenced and after."""

import shlex
import threading
from pathlib import Path

from tests.cluster.world import World
from tests.lab.cluster import MAIL_NODES, NODES

SAMPLE_S = 0.02
ASKED = (
    *("status", "why mail", "history", "events", "timing", "version", "--help"),
    *("config show", "config check /etc/hamail/cluster.toml"),
)
# Where an operator, a backup or a crash collector would come by; not where the secrets themselves lie.
PLACES = (
    "/run/hamail /run/hamail-executor /run/hamail-agents /var/lib/hamail /var/log /var/crash /var/lib/systemd/coredump"
)


class Watcher(threading.Thread):
    """Looks at the arguments and environments of all processes of this machine, those of the nodes among them."""

    def __init__(self, secrets: list[bytes]) -> None:
        super().__init__(daemon=True)
        self.secrets, self.ended, self.seen, self.fence_runs = secrets, threading.Event(), set(), set()

    def run(self) -> None:
        while not self.ended.wait(SAMPLE_S):
            for folder in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        content = (folder / name).read_bytes()
                    except OSError:
                        continue
                    if b"fence_lab" in content:
                        self.fence_runs.add(folder.name)
                    if any(secret in content for secret in self.secrets):
                        self.seen.add(f"{folder}/{name}: {(folder / 'comm').read_text()}")


def planted(world: World) -> list[bytes]:
    """The fence device's password, and a line from the middle of each private key."""
    node = world.nodes[MAIL_NODES[0]]
    found = [node.run("cat /etc/hamail/secrets/pdu").stdout.strip().encode()]
    for name in NODES:
        key = world.nodes[name].run("cat /etc/hamail/pki/node.key").stdout.splitlines()
        found.append(key[len(key) // 2].encode())
    assert all(len(secret) > 12 for secret in found)
    return found


def test_no_secret_of_the_cluster_is_anywhere_else(world: World) -> None:
    secrets = planted(world)
    active = world.active
    watcher = Watcher(secrets)
    watcher.start()
    world.lab.cut(active)
    world.until(lambda: world.active not in ("", active), 30, "the other node has taken over after a fence")
    world.lab.restore()
    world.wait_healthy(60)
    watcher.ended.set()
    watcher.join()
    assert watcher.fence_runs, "the fence agent was seen at work"
    assert not watcher.seen

    texts: dict[str, str] = {}
    for name in NODES:
        node = world.nodes[name]
        for words in ASKED:
            for form in (words, f"{words} --json"):
                done = world.ctl(name, form, code=None)
                texts[f"{name}: hamailctl {form}"] = done.stdout + done.stderr
        texts[f"{name}: journal"] = node.run("journalctl --no-pager -a -o export", check=False, timeout_s=60).stdout
    shown = [where for where, text in texts.items() for s in secrets if s.decode() in text]
    assert not shown
    assert len([t for t in texts.values() if len(t) > 200]) > 2 * len(NODES), "there was something to look at"

    patterns = "\n".join(s.decode() for s in secrets) + "\n"
    for name in NODES:  # on standard input, so that the search does not find itself
        search = f"grep -rlaF -f - {PLACES} 2>/dev/null || true"
        left = world.nodes[name].run(["sh", "-c", search], input=patterns).stdout
        assert left == "", f"{name}: {left}"
        where = (
            world.nodes[name].run(["sh", "-c", "grep -rlaF -f - /etc/hamail || true"], input=patterns).stdout.split()
        )
        assert where and all(w.startswith(("/etc/hamail/secrets/", "/etc/hamail/pki/")) for w in where), shlex.join(
            where
        )
