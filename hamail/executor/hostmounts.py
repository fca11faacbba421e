"""Whose mounts count: those of the machine, also where systemd gives the executor a mount namespace of its own.

The unit confines the executor to a read-only view of the file system. Agents act outside of it (hamail-agents.service),
so what is mounted is asked of the machine's own namespace.
"""

import os

VARIABLE = "HAMAIL_MOUNTS_OF"  # set by the unit to 1, the process id of systemd; without it nothing is special
OWN = "self"


def owner() -> str:
    """The process below /proc that has the mounts which count: "self", or a process id. Raises ValueError."""
    given = os.environ.get(VARIABLE, OWN)
    if given != OWN and not (given.isascii() and given.isdigit()):
        raise ValueError(f"{VARIABLE} is {given!r}, which is no process id")
    return given
