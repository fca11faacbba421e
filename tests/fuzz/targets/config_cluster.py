"""The cluster's TOML: a spec that means something, or every problem with its place. No half-read configuration."""

from pathlib import Path

from hamail.config.difference import diff
from hamail.config.load import parse_cluster
from hamail.config.local import check_local
from hamail.config.problem import ConfigError
from hamail.core.timing import derive

INSTRUMENT = ("hamail.config",)
LENGTH_MAX = 8192
ETC = Path(__file__).parents[3] / "etc"
SMALL = """[cluster]
name = "c"
detection = "1s"
[nodes.n1]
address = "192.0.2.1"
[nodes.n2]
address = "192.0.2.2"
[nodes.n3]
address = "192.0.2.3"
witness = true
[fencing.pdu]
agent = "fence_apc"
targets = { n1 = "1", n2 = "2" }
[groups.mail]
nodes = ["n1", "n2"]
requires = "fencing"
[groups.mail.resources.store]
agent = "hamail:filesystem"
parameters = { device = "/dev/sdb", directory = "/srv" }
[groups.mail.resources.vip]
agent = "hamail:vip"
after = ["store"]
parameters = { address = "192.0.2.9/24", interface = "eth0" }
"""


def seeds() -> list[bytes]:
    whole = (ETC / "cluster.toml").read_bytes()
    lines = whole.splitlines(keepends=True)
    return [whole, SMALL.encode(), b"".join(lines[: len(lines) // 2]), b'a = """\n', b"x = 1" + b"0" * 300]


def one(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape" if data[:1] == b"#" else "replace")
    try:
        spec = parse_cluster(text, "cluster.toml")
    except ConfigError as error:
        assert error.problems
        assert all(p.place and p.reason for p in error.problems)
        return
    derive(spec.detection_ms, spec.watchdog_timeout_s)
    check_local(spec, {}, next(iter(spec.nodes)))
    assert not diff(spec, spec)
