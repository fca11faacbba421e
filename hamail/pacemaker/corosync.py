"""Names and addresses of the nodes, from corosync.conf."""

import ipaddress
import re


def addresses(text: str) -> dict[str, str]:
    """Node -> address of its first link; names that are no numeric addresses are left out."""
    found: dict[str, str] = {}
    for block in re.findall(r"\bnode\s*\{([^{}]*)\}", text):
        values = dict(re.findall(r"^\s*(\w+)\s*:\s*(\S+)\s*$", block, re.MULTILINE))
        name, address = values.get("name", ""), values.get("ring0_addr", "")
        try:
            found[name or address] = str(ipaddress.ip_address(address))
        except ValueError:
            continue
    return found
