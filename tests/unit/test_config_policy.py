"""The failure policy in cluster.toml: one line each, read strictly."""

import pytest

from hamail.config import ConfigError, diff, parse_cluster
from hamail.config.policy import parse_budget
from hamail.model.spec import DEFAULT_FAILOVERS, DEFAULT_QUARANTINE, Budget

TEXT = """
[cluster]
name = "mail"
{cluster}
[nodes.n1]
address = "10.0.0.1"
[nodes.n2]
address = "10.0.0.2"
[nodes.n3]
address = "10.0.0.3"
witness = true
[groups.mail]
nodes = ["n1", "n2"]
shared_storage = false
requires = "lease"
{group}
[groups.mail.resources.postfix]
agent = "hamail:postfix"
"""
MIN_MS = 60_000


def read(cluster="", group=""):
    return parse_cluster(TEXT.format(cluster=cluster, group=group), "cluster.toml")


def test_defaults():
    spec = read()
    assert spec.groups["mail"].failovers == DEFAULT_FAILOVERS
    assert (spec.quarantine, spec.quarantine_for_ms) == (DEFAULT_QUARANTINE, 60 * MIN_MS)


def test_one_line_each():
    spec = read(
        'quarantine = "5 in 1h"\nquarantine_for = "1d"', 'failovers = "3 in 24h, 1 in 15m"\nrestarts = "2 in 5m"'
    )
    short, long = spec.groups["mail"].failovers
    assert (short, long) == (Budget(limit=1, window_ms=15 * MIN_MS), Budget(limit=3, window_ms=1440 * MIN_MS))
    assert (spec.groups["mail"].restarts, spec.groups["mail"].restarts_window_ms) == (2, 5 * MIN_MS)
    assert (spec.quarantine, spec.quarantine_for_ms) == (Budget(limit=5, window_ms=60 * MIN_MS), 1440 * MIN_MS)
    assert read('quarantine = "off"').quarantine is None
    assert read("", 'failovers = "off"').groups["mail"].failovers == ()


@pytest.mark.parametrize(
    ("cluster", "group", "place", "why"),
    [
        ("", 'failovers = "often"', "groups.mail.failovers", "is not a number in a time"),
        ("", "failovers = 3", "groups.mail.failovers", "expected a text"),
        ("", 'failovers = ""', "groups.mail.failovers", "is empty"),
        ("", 'failovers = "3 in"', "groups.mail.failovers", "is not a number in a time"),
        ("", 'failovers = "3 in 10"', "groups.mail.failovers", "is not a duration"),
        ("", 'failovers = "3 in 1h,"', "groups.mail.failovers", "is not a number in a time"),
        ("", 'failovers = "101 in 1h"', "groups.mail.failovers", "more than 100"),
        ("", 'failovers = "-1 in 1h"', "groups.mail.failovers", "is not a number in a time"),
        ("", 'failovers = "1 in 31d"', "groups.mail.failovers", "between 1s and 30d"),
        ("", 'failovers = "1 in 10ms"', "groups.mail.failovers", "between 1s and 30d"),
        ("", 'failovers = "3 in 15m, 1 in 24h"', "groups.mail.failovers", "can never be used up before"),
        ("", 'failovers = "1 in 15m, 2 in 15m, 1 in 15m"', "groups.mail.failovers", "can never be used up before"),
        ("", 'failovers = "1 in 1m, 2 in 2m, 3 in 3m, 4 in 4m, 5 in 5m"', "groups.mail.failovers", "at most 4"),
        ('quarantine = "1 in 10m"', "", "cluster.quarantine", "at least 2"),
        ('quarantine = "never"', "", "cluster.quarantine", 'or "off"'),
        ("quarantine = true", "", "cluster.quarantine", "expected a text"),
        ('quarantine_for = "10s"', "", "cluster.quarantine_for", "between 1m and 30d"),
        ('quarantine_for = "31d"', "", "cluster.quarantine_for", "between 1m and 30d"),
        ('failovers = "1 in 1h"', "", "cluster.failovers", "is not known here"),
    ],
)
def test_wrong_policies_are_refused_with_place_and_reason(cluster, group, place, why):
    with pytest.raises(ConfigError) as error:
        read(cluster, group)
    assert any(place in p.place and why in p.reason for p in error.value.problems), error.value.problems


def test_a_change_is_shown_as_it_is_written():
    changes = diff(read(), read('quarantine = "off"', 'failovers = "1 in 15m, 3 in 24h"'))
    assert "groups.mail.failovers: 3 in 1h -> 1 in 15m, 3 in 24h" in changes
    assert any("quarantine: 3 in 10m -> off" in line for line in changes)
    assert "groups.mail.failovers: 3 in 1h -> off" in diff(read(), read(group='failovers = "off"'))


@pytest.mark.parametrize("text", ["3 in 10m", "0 in 24h", "100 in 90s", "2 in 1500ms"])
def test_a_budget_is_written_as_it_is_read(text):
    assert str(parse_budget(text)) == text
