"""MX, addresses, PTR and TTLs: do the names lead to the floating addresses, and back?"""

import ipaddress

from hamail.doctor.dns_facts import Answer, DnsFacts
from hamail.doctor.findings import Findings
from hamail.doctor.line import Opinions, fail, ok, unknown, warn

TTL_WARN_S = 3600
NULL_MX = "."


def resolver(f: Findings) -> Opinions:
    if f.dns is None:
        return
    if f.dns.down:
        yield unknown("DNS", f.dns.down, "hamailctl doctor --only dns --nameserver ADDRESS asks another one")
    elif not f.dns.hostname:
        yield unknown("DNS", "the name of the mail service is not known", "hamailctl doctor --hostname NAME")
    else:
        yield ok("DNS", f"asked for {f.dns.hostname} and {len(f.dns.domains)} domains")
    if not f.dns.domains:
        yield unknown("DNS", "no domain that receives mail here is known", "hamailctl doctor --domain NAME")


def usable(f: Findings) -> DnsFacts | None:
    """None when DNS was not asked, or nothing answers: `resolver` has said so once."""
    return f.dns if f.dns is not None and not f.dns.down else None


def mx_hosts(answer: Answer) -> list[str]:
    """In order of preference."""
    pairs = sorted((int(r.split()[0]), r.split()[1].rstrip(".")) for r in answer.records if len(r.split()) == 2)
    return [host for _, host in pairs]


def addresses(dns: DnsFacts, name: str) -> tuple[set[str], str]:
    """The addresses of a name, and why they are not (all) known."""
    answers = [dns.get(name, kind) for kind in ("A", "AAAA")]
    found = {str(ipaddress.ip_address(r)) for a in answers for r in a.records}
    return found, next((a.why for a in answers if a.why), "")


def vips_of(f: Findings) -> set[str]:
    return {str(ipaddress.ip_address(vip)) for vip in f.vips()}


def address(f: Findings) -> Opinions:
    dns = usable(f)
    if dns is None or not dns.hostname:
        return
    name = dns.hostname
    found, why = addresses(dns, name)
    vips = vips_of(f)
    strays = found - vips
    if why and not found:
        yield unknown(name, f"its addresses are not known: {why}")
    elif not found:
        yield fail(name, "has no address", f"publish A (and AAAA) records of {name}: {', '.join(sorted(vips))}")
    elif not vips:
        yield unknown(name, f"leads to {', '.join(sorted(found))}; no group has a floating address")
    elif strays:
        text = f"leads to {', '.join(sorted(strays))}, which does not move with the group"
        yield fail(name, text, f"let {name} lead to the floating addresses only: {', '.join(sorted(vips))}")
    else:
        yield ok(name, f"leads to {', '.join(sorted(found))}")


def mx(f: Findings) -> Opinions:
    dns = usable(f)
    for domain in dns.domains if dns else ():
        assert dns is not None
        answer = dns.get(domain, "MX")
        if answer.why:
            yield unknown(domain, f"its MX is not known: {answer.why}")
            continue
        hosts = mx_hosts(answer)
        if not hosts or hosts == [""]:
            yield fail(domain, "has no MX", f"publish: {domain} MX 10 {dns.hostname or 'the mail service'}")
            continue
        yield from _mx_targets(f, dns, domain, hosts)


def _mx_targets(f: Findings, dns: DnsFacts, domain: str, hosts: list[str]) -> Opinions:
    vips, here = vips_of(f), []
    for host in hosts:
        alias = dns.get(host, "A").alias or dns.get(host, "AAAA").alias
        if alias:
            yield fail(
                domain, f"its MX {host} is an alias (CNAME) for {alias}", "an MX must name a host with addresses"
            )
            continue
        found, why = addresses(dns, host)
        if not found:
            say = unknown if why else fail
            yield say(
                domain, f"its MX {host} has no address{f': {why}' if why else ''}", f"publish A records of {host}"
            )
        elif found & vips:
            here.append(host)
            if found - vips:
                text = f"its MX {host} also leads to {', '.join(sorted(found - vips))}, which does not move"
                yield warn(domain, text, f"let {host} lead to floating addresses only")
    if here:
        yield ok(domain, f"its mail goes to {', '.join(here)}")
    elif vips:
        text = f"none of its MX ({', '.join(hosts)}) leads to a floating address"
        yield warn(domain, text, f"publish: {domain} MX 10 {dns.hostname or 'the mail service'}")


def pointer(f: Findings) -> Opinions:
    dns = usable(f)
    for vip in sorted(vips_of(f)) if dns else ():
        assert dns is not None
        answer = dns.get(ipaddress.ip_address(vip).reverse_pointer, "PTR")
        names = [record.rstrip(".").lower() for record in answer.records]
        if answer.why:
            yield unknown(vip, f"its PTR is not known: {answer.why}")
        elif ipaddress.ip_address(vip).is_private and not names:
            yield unknown(
                vip, "is a private address without PTR; behind NAT the public address counts, unseen from here"
            )
        elif not names:
            yield fail(
                vip, "has no PTR: many servers refuse mail from it", f"have the owner of the network set {dns.hostname}"
            )
        elif not any(vip in addresses(dns, name)[0] for name in names):
            text = f"its PTR {', '.join(names)} does not lead back to it"
            yield fail(vip, text, f"publish {names[0]} with address {vip}")
        elif dns.hostname and dns.hostname.lower() not in names:
            text = f"its PTR is {', '.join(names)}, but Postfix says {dns.hostname}"
            yield warn(vip, text, f"make them the same: the PTR, or myhostname = {names[0]} on both nodes")
        else:
            yield ok(vip, f"its PTR {', '.join(names)} leads back to it")


def ttl(f: Findings) -> Opinions:
    dns = usable(f)
    if dns is None:
        return
    names = {name for domain in dns.domains for name in mx_hosts(dns.get(domain, "MX"))} | {dns.hostname} - {""}
    for name in sorted(names - {""}):
        found = [a for kind in ("A", "AAAA") if (a := dns.get(name, kind)).records]
        if not found:
            continue
        longest = max(a.ttl_s for a in found)
        if longest > TTL_WARN_S:
            text = f"its addresses may be remembered for {longest} s: a move to another site would be seen that late"
            yield warn(name, text, f"lower the TTL of {name} to 300 s; within the pair it does not matter")
        else:
            yield ok(name, f"TTL {longest} s")
