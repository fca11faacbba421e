"""The TOML of one node, and the durations in it."""

from pathlib import Path

from hamail.config.duration import format_duration, parse_duration
from hamail.config.load import _parse
from hamail.config.node import read_node
from hamail.config.problem import ConfigError

INSTRUMENT = ("hamail.config",)
LENGTH_MAX = 6000
ETC = Path(__file__).parents[3] / "etc"


def seeds() -> list[bytes]:
    whole = (ETC / "node.toml").read_bytes()
    small = b'node = "n1"\nstate_dir = "/var/lib/x"\nagent_dirs = ["/usr/lib/ocf"]\nlog_level = "debug"\n'
    return [whole, small, b"d1500ms", b"d1.5s", b"d10m", b"d2h"]


def one(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    if text[:1] == "d":
        try:
            found_ms = parse_duration(text[1:])
        except ValueError as error:
            assert str(error)
            return
        if found_ms < 10**9:  # what can be written at all: nine digits and a unit
            assert parse_duration(format_duration(found_ms)) == found_ms
        return
    try:
        config = _parse(text, "node.toml", lambda root, _: read_node(root))
    except ConfigError as error:
        assert error.problems
        return
    assert config.node
    assert all(path.is_absolute() for path in (config.state_dir, config.run_dir, config.certificates))
