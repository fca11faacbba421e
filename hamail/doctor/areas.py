"""The areas of the checks, for the command line; `checks.py` has the checks themselves (slow to import)."""

TITLES = {
    "nodes": "Nodes and links",
    "fence": "Fencing",
    "watchdog": "Watchdog",
    "storage": "Storage",
    "postfix": "Postfix",
    "dovecot": "Dovecot",
    "same": "The same on both nodes",
    "boot": "Boot, and who else is there",
    "dns": "DNS",
}
AREAS = tuple(TITLES)
