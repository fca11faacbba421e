"""Would the boot start what only hamail may start?"""

from hamail.machine.run import Failed, output
from hamail.model.spec import GroupSpec

OF_AGENT = {
    "hamail:postfix": ("postfix.service",),
    "hamail:dovecot": ("dovecot.service", "dovecot.socket"),
    "heartbeat:postfix": ("postfix.service",),
    "heartbeat:dovecot": ("dovecot.service", "dovecot.socket"),
}
HAMAIL = ("hamaild.service", "hamail-executor.service")
STATES = ("UnitFileState", "LoadState")


def names(groups: tuple[GroupSpec, ...]) -> tuple[str, ...]:
    """The units that belong to the groups."""
    found: list[str] = []
    for resource in (r for g in groups for r in g.resources):
        own = resource.parameters.get("unit", "")
        if own and own not in ("auto", "none"):
            found.append(own if "." in own else f"{own}.service")
        elif not own or own == "auto":
            found += OF_AGENT.get(resource.agent, ())
    return tuple(dict.fromkeys(found))


def at_boot(groups: tuple[GroupSpec, ...]) -> dict[str, str]:
    """Unit -> what systemd says of it; units that do not exist here are left out. Raises Failed without systemd."""
    found = {}
    for name in (*names(groups), *HAMAIL):
        try:
            state = output("systemctl", "is-enabled", name, codes=(0, 1, 4)).strip()
        except Failed as error:
            if "not installed" in str(error):
                raise
            state = f"unknown: {error}"
        if state and state not in ("not-found", "static", "indirect", "generated", "transient"):
            found[name] = state[:100]
    return found
