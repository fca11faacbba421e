"""How long hamail's own agents may take, as their meta-data say: what holds where the configuration names no time-out.

The executor asks the agent itself. Here they are known without asking, on any node and for a saved state; a test
compares them with the agents.
"""

from hamail.model.spec import ResourceSpec

START_MS = {
    "hamail:filesystem": 120_000,
    "hamail:dovecot": 30_000,
    "hamail:postfix": 60_000,
    "hamail:vip": 20_000,
    "hamail:systemd": 100_000,
}
STOP_MS = {
    "hamail:filesystem": 60_000,
    "hamail:dovecot": 30_000,
    "hamail:postfix": 30_000,
    "hamail:vip": 20_000,
    "hamail:systemd": 100_000,
}


def start_ms(r: ResourceSpec) -> int | None:
    """None: only the agent knows."""
    return r.start_timeout_ms or START_MS.get(r.agent)


def stop_ms(r: ResourceSpec) -> int | None:
    return r.stop_timeout_ms or STOP_MS.get(r.agent)
