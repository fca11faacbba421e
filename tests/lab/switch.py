"""The lab's switch: a bridge in a network namespace of its own; the host has no address on it.

Hosts hang on it by ports `p-NAME`. Frames between ports can be dropped one way, both ways, in part, or slowed down,
without the hosts losing carrier; `unplug` takes the carrier too.
"""

import hashlib
import subprocess
from pathlib import Path

COMMAND_TIMEOUT_S = 20
TABLE = "lab"
HOSTS = {"n1": 11, "n2": 12, "n3": 13, "client": 200, "pdu": 250}
VIP = 100


class Addresses:
    """Addresses of one lab. They live only inside its namespaces; the number keeps two labs' output apart."""

    def __init__(self, number: int) -> None:
        self.number = number

    def v4(self, host: str) -> str:
        return f"10.88.{self.number}.{HOSTS[host]}"

    def v6(self, host: str) -> str:
        return f"fd88:0:0:{self.number:x}::{HOSTS[host]}"

    @property
    def vip(self) -> str:
        return f"10.88.{self.number}.{VIP}"

    @property
    def vip6(self) -> str:
        return f"fd88:0:0:{self.number:x}::{VIP}"


class Switch:
    def __init__(self, prefix: str, addresses: Addresses) -> None:
        self.prefix = prefix
        self.addresses = addresses

    @property
    def namespace(self) -> str:
        return self.namespace_of("sw")

    def namespace_of(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    def up(self) -> None:
        run("ip", "netns", "add", self.namespace)
        self._ip(
            "link set lo up", "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0", "link set br0 up"
        )
        self._nft(f"add table bridge {TABLE}; add chain bridge {TABLE} wire {{ type filter hook forward priority 0; }}")

    def attach(self, host: str) -> None:
        """A fresh network namespace for `host`, with `eth0` on a port of this switch. An older one is thrown away."""
        self.detach(host)
        namespace, port = self.namespace_of(host), f"p-{host}"
        run("ip", "netns", "add", namespace)
        self._ip(
            f"link add {port} type veth peer name eth0 address {self.mac(host)} netns {namespace}",
            f"link set {port} master br0 up",
        )
        # Loading router advertisements or duplicate detection would only delay the address by seconds.
        ip_batch(
            namespace,
            "link set lo up",
            "link set eth0 up",
            f"addr add {self.addresses.v4(host)}/24 dev eth0",
            f"addr add {self.addresses.v6(host)}/64 dev eth0 nodad",
        )

    def detach(self, host: str) -> None:
        run("ip", "-n", self.namespace, "link", "del", f"p-{host}", check=False)
        if Path("/run/netns", self.namespace_of(host)).exists():
            run("ip", "netns", "del", self.namespace_of(host), check=False)

    def down(self) -> None:
        """Remove every namespace of this lab, whatever made it."""
        for path in Path("/run/netns").glob(f"{self.prefix}-*"):
            run("ip", "netns", "del", path.name, check=False)

    def mac(self, host: str) -> str:
        """The same at every power-on, as a real card's."""
        digest = hashlib.sha256(self.prefix.encode()).digest()
        return f"02:88:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}:{HOSTS[host]:02x}"

    # Faults

    def unplug(self, host: str) -> None:
        """Carrier loss at the host."""
        run("ip", "-n", self.namespace, "link", "set", f"p-{host}", "down", check=False)

    def disconnect(self, host: str) -> None:
        """For good, until it is attached again: `heal` must not bring a machine back on the wire that is off, since its
        kernel side, here a namespace, may still hold its addresses for a moment and answer for them."""
        run("ip", "-n", self.namespace, "link", "set", f"p-{host}", "down", "nomaster", check=False)

    def plug(self, host: str) -> None:
        run("ip", "-n", self.namespace, "link", "set", f"p-{host}", "up")

    def drop(self, source: str, destination: str = "any", percent: int = 100) -> None:
        """One way: frames from `source` to `destination` vanish, or `percent` of them. `any` stands for every host."""
        match = [f"iifname p-{source}"] if source != "any" else []
        match += [f"oifname p-{destination}"] if destination != "any" else []
        match += [f"numgen random mod 100 < {percent}"] if percent < 100 else []
        self._nft(f"add rule bridge {TABLE} wire {' '.join(match)} counter drop")

    def partition(self, left: list[str], right: list[str]) -> None:
        """Both ways between each host on the left and each on the right."""
        rules = []
        for a in left:
            for b in right:
                rules += [f"iifname p-{a} oifname p-{b}", f"iifname p-{b} oifname p-{a}"]
        self._nft("; ".join(f"add rule bridge {TABLE} wire {rule} counter drop" for rule in rules))

    def isolate(self, host: str) -> None:
        """From everyone, the client and the PDU included, without carrier loss."""
        self._nft(
            f"add rule bridge {TABLE} wire iifname p-{host} counter drop; "
            f"add rule bridge {TABLE} wire oifname p-{host} counter drop"
        )

    def slow(self, host: str, rate: str) -> None:
        """Limit what goes to `host` to a rate in tc's notation, e.g. 256kbit."""
        limit = ("tbf", "rate", rate, "burst", "4kb", "latency", "2s")
        run("tc", "-n", self.namespace, "qdisc", "replace", "dev", f"p-{host}", "root", *limit)

    def heal(self) -> None:
        """Take back drop, partition, isolate, slow and unplug."""
        self._nft(f"flush chain bridge {TABLE} wire")
        listing = run("ip", "-n", self.namespace, "-br", "link", "show", "type", "veth").stdout
        for port in (line.split("@")[0] for line in listing.splitlines()):
            run("tc", "-n", self.namespace, "qdisc", "del", "dev", port, "root", check=False)
            self.plug(port.removeprefix("p-"))

    def _ip(self, *commands: str) -> None:
        ip_batch(self.namespace, *commands)

    def _nft(self, rules: str) -> None:
        run("ip", "netns", "exec", self.namespace, "nft", rules)


def ip_batch(namespace: str, *commands: str) -> None:
    """Several `ip` commands in one process."""
    run("ip", "-n", namespace, "-batch", "-", input_text="\n".join(commands))


def run(*command: str, check: bool = True, input_text: str | None = None) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, input=input_text, timeout=COMMAND_TIMEOUT_S
    )
    if check and result.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {result.returncode}: {result.stderr.strip()}")
    return result
