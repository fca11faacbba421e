"""Would a receiver let this address send for this domain? RFC 7208, as far as a sender's own check needs it. Pure."""

import ipaddress
from dataclasses import dataclass, field

from hamail.doctor.dns_facts import Lookup

LOOKUPS_MAX = 10
DEPTH_MAX = 10
RESULTS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Unknown(Exception):
    """A name server did not answer; the message says for what."""


class Permanent(Exception):
    """A receiver would give up on this record for good; the message says why."""


@dataclass
class _Count:
    lookups: int = 0
    last: str = ""  # how the domain's own record ends: the qualifier of `all`, or "redirect"
    seen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    verdict: str  # pass | fail | softfail | neutral | none
    lookups: int
    ends: str  # "-all", "~all", "?all", "+all", "redirect", ""


def records(domain: str, lookup: Lookup) -> tuple[str, ...]:
    """The SPF records of a domain; more than one is an error. Raises Unknown."""
    answer = lookup(domain, "TXT")
    if answer.why:
        raise Unknown(f"{domain} TXT: {answer.why}")
    return tuple(r for r in answer.records if r.lower() == "v=spf1" or r.lower().startswith("v=spf1 "))


def check(domain: str, address: str, lookup: Lookup) -> Result:
    """Raises Unknown, Permanent."""
    count = _Count()
    verdict = _record(domain, ipaddress.ip_address(address), lookup, count, 0)
    return Result(verdict, count.lookups, count.last)


def _record(domain: str, ip: Address, lookup: Lookup, count: _Count, depth: int) -> str:
    if depth > DEPTH_MAX or domain in count.seen:
        raise Permanent(f"{domain} includes itself")
    count.seen.append(domain)
    found = records(domain, lookup)
    if len(found) > 1:
        raise Permanent(f"{domain} has {len(found)} SPF records; receivers take none of them")
    if not found:
        return "none"
    redirect = ""
    for term in found[0].split()[1:]:
        qualifier, mechanism = (term[0], term[1:]) if term[0] in RESULTS else ("+", term)
        name, argument = _parted(mechanism)
        if name.lower().startswith("redirect="):
            redirect = mechanism.partition("=")[2]
        elif "=" in mechanism and ":" not in mechanism.partition("=")[0]:
            continue  # exp= and modifiers of tomorrow
        elif _matches(name.lower(), argument, domain, ip, lookup, count, depth):
            if depth == 0 and name.lower() == "all":
                count.last = f"{qualifier}all"
            elif depth == 0:
                count.last = _ending(found[0])
            count.seen.remove(domain)
            return RESULTS[qualifier]
    count.seen.remove(domain)
    if redirect:
        _spend(count)
        count.last = count.last or "redirect"
        return _record(redirect, ip, lookup, count, depth + 1)
    return "neutral"


def _parted(mechanism: str) -> tuple[str, str]:
    """Name and argument; "a/24" has its prefix at the name."""
    name, colon, argument = mechanism.partition(":")
    if colon:
        return name, argument
    name, slash, bits = mechanism.partition("/")
    return name, f"{slash}{bits}"


def _ending(record: str) -> str:
    last = record.rsplit(maxsplit=1)[-1].lower()
    if last.startswith("redirect="):
        return "redirect"
    if last.lstrip("+-~?") == "all":
        return last if last[0] in RESULTS else f"+{last}"
    return ""


def _spend(count: _Count) -> None:
    count.lookups += 1
    if count.lookups > LOOKUPS_MAX:
        raise Permanent(f"it needs more than {LOOKUPS_MAX} look-ups; receivers give up")


def _matches(name: str, argument: str, domain: str, ip: Address, lookup: Lookup, count: _Count, depth: int) -> bool:
    if name == "all":
        return True
    if name in ("ip4", "ip6"):
        try:
            return ip in ipaddress.ip_network(argument, strict=False)
        except ValueError:
            raise Permanent(f"{name}:{argument} is not a network") from None
    target, _, bits = argument.partition("/")
    target = target or domain
    if "%" in argument or name in ("exists", "ptr"):
        _spend(count)
        return False  # macros: what they match cannot be told here; no match is the careful answer
    if name == "include":
        _spend(count)
        return _record(target, ip, lookup, count, depth + 1) == "pass"
    if name == "a":
        _spend(count)
        return _address_matches(target, bits, ip, lookup)
    if name == "mx":
        _spend(count)
        hosts = [record.split()[-1].rstrip(".") for record in _asked(target, "MX", lookup)]
        return any(_address_matches(host, bits, ip, lookup) for host in hosts[:LOOKUPS_MAX])
    raise Permanent(f"'{name}' is no mechanism of SPF")


def _asked(name: str, kind: str, lookup: Lookup) -> tuple[str, ...]:
    answer = lookup(name, kind)
    if answer.why:
        raise Unknown(f"{name} {kind}: {answer.why}")
    return answer.records


def _address_matches(name: str, bits: str, ip: Address, lookup: Lookup) -> bool:
    kind, full = ("A", 32) if ip.version == 4 else ("AAAA", 128)
    four, _, six = bits.partition("//")
    given = (four if ip.version == 4 else six).strip("/")
    length = int(given) if given.isdigit() else full
    for record in _asked(name, kind, lookup):
        try:
            if ip in ipaddress.ip_network(f"{record}/{length}", strict=False):
                return True
        except ValueError:
            continue
    return False
