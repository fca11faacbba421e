"""What to ask the name servers, from what the mail programs say of themselves. Pure."""

from hamail.doctor.dns_facts import DkimSelector
from hamail.doctor.findings import Findings

DOMAINS_MAX = 20
LISTS = ("virtual_mailbox_domains", "mydestination")


def hostname(f: Findings) -> str:
    """Postfix' myhostname, of the first node that tells it; a name without a dot is nothing to ask for."""
    for node in f.mail_nodes():
        program = f.program(node, "postfix")
        name = program.settings.get("myhostname", "") if program else ""
        if "." in name:
            return name.lower()
    return ""


def domains(f: Findings) -> tuple[str, ...]:
    """Names that Postfix takes mail for; tables cannot be looked into."""
    found: list[str] = []
    own = hostname(f)
    for node in f.mail_nodes():
        program = f.program(node, "postfix")
        for key in LISTS if program else ():
            assert program is not None
            for word in program.settings.get(key, "").replace(",", " ").split():
                name = word.lower().rstrip(".")
                if "." in name and not set(name) & set(":/$") and name != own and not name.startswith("localhost."):
                    found.append(name)
    return tuple(dict.fromkeys(found))[:DOMAINS_MAX]


def selectors(f: Findings, given: tuple[str, ...], names: tuple[str, ...]) -> tuple[DkimSelector, ...]:
    """ "NAME" is meant for every domain, "DOMAIN:NAME" for one; keys that a node signs with come on top."""
    found: list[DkimSelector] = []
    for text in given:
        domain, _, selector = text.rpartition(":")
        for name in (domain,) if domain else names:
            found.append(DkimSelector(domain=name, selector=selector, source="given"))
    for node, machine in f.machines().items():
        for key in machine.dkim:
            found.append(
                DkimSelector(
                    domain=key.domain, selector=key.selector, public=key.public, problem=key.problem, source=node
                )
            )
    return tuple(found)
