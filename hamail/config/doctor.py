"""`[doctor]` of node.toml: what `hamailctl doctor` asks of the name servers."""

import ipaddress

from msgspec import Struct

from hamail.config.section import Section


class DoctorConfig(Struct, frozen=True, kw_only=True):
    """All optional: the machine's own name servers, and what Postfix says of itself."""

    nameserver: str = ""
    hostname: str = ""
    domains: tuple[str, ...] = ()
    selectors: tuple[str, ...] = ()  # "NAME", for every domain, or "DOMAIN:NAME"


def read_doctor(root: Section) -> DoctorConfig:
    """Problems go to the section's list."""
    section = root.table("doctor", required=False)
    nameserver = section.optional_text("nameserver") or ""
    if nameserver:
        try:
            ipaddress.ip_address(nameserver)
        except ValueError:
            section.problem("nameserver", f"{nameserver!r} is not a numeric IP address")
    found = DoctorConfig(
        nameserver=nameserver,
        hostname=section.optional_text("hostname") or "",
        domains=section.names("domains"),
        selectors=section.names("selectors"),
    )
    section.finish()
    return found
