"""A text that is given to be checked, by a member or by whoever may look, takes no memory to speak of."""

import tracemalloc
from pathlib import Path

import pytest

from hamail.config import ConfigError, parse_cluster
from hamail.config.load import LINE_DOTS_MAX

SAMPLE = (Path(__file__).parents[2] / "etc" / "cluster.toml").read_text()


@pytest.mark.parametrize(
    "hostile",
    ["a" + ".a" * 5000 + " = 1", "[a" + " . 'a..b'" * 5000 + "]", 'x = {b = """\n# """, c' + ".a" * 5000 + " = 1}"],
)
def test_keys_of_thousands_of_parts_are_refused_unread(hostile):
    """Reading these took memory by the square of their length."""
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError) as refusal:
            parse_cluster(f"{hostile}\n{SAMPLE}", "c.toml")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    (problem,) = refusal.value.problems
    assert problem.reason == f"has more than {LINE_DOTS_MAX} dots in one line"


def test_a_line_of_dots_is_a_good_comment():
    parse_cluster(f"# {'.' * 300}\n{SAMPLE}", "c.toml")
