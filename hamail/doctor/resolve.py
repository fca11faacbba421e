"""Asks the name servers for all that the judges will look at. The only part of the doctor that speaks DNS."""

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable

import dns.exception
import dns.flags
import dns.name
import dns.rdatatype
import dns.resolver

from hamail.doctor import spf
from hamail.doctor.dns_facts import Answer, DkimSelector, DnsFacts
from hamail.doctor.names import mx_hosts
from hamail.doctor.policies import dmarc_places

LIFETIME_S = 4.0
QUESTIONS_MAX = 300
SILENCES_MAX = 2  # so many questions without any answer, and nobody is asked any more
POLICY_BYTES_MAX = 64 << 10  # RFC 8461
POLICY_TIMEOUT_S = 5.0
EDNS_BYTES = 1232
HTTPS_PORT = 443


class NoNameServer(Exception):
    """This machine does not say whom to ask."""


class Resolver:
    """A cache over one name server, or the machine's own choice of them."""

    def __init__(self, nameserver: str = "", port: int = 53) -> None:
        """Raises ValueError when `nameserver` is not an address, NoNameServer when this machine names none."""
        try:
            self._resolver = dns.resolver.Resolver(configure=not nameserver)
        except dns.resolver.NoResolverConfiguration as error:
            raise NoNameServer("this machine names no name server in /etc/resolv.conf") from error
        if nameserver:
            self._resolver.nameservers = [str(ipaddress.ip_address(nameserver))]
            self._resolver.port = port
        self._resolver.lifetime = LIFETIME_S
        self._resolver.use_edns(0, dns.flags.DO, EDNS_BYTES)
        self._resolver.flags = dns.flags.RD | dns.flags.AD
        self.answers: dict[str, Answer] = {}
        self.silences = 0

    @property
    def down(self) -> str:
        if self.silences >= SILENCES_MAX and not any(not a.why for a in self.answers.values()):
            return f"no name server answers ({', '.join(map(str, self._resolver.nameservers))})"
        return ""

    def lookup(self, name: str, kind: str) -> Answer:
        key = f"{name.rstrip('.').lower()} {kind}"
        if key not in self.answers:
            if self.down or len(self.answers) >= QUESTIONS_MAX:
                return Answer(why=self.down or f"more than {QUESTIONS_MAX} questions")
            self.answers[key] = self._ask(name, kind)
        return self.answers[key]

    def _ask(self, name: str, kind: str) -> Answer:
        try:
            found = self._resolver.resolve(name, kind, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            return Answer()
        except dns.exception.Timeout:
            self.silences += 1
            return Answer(why=f"no answer within {LIFETIME_S:g} s")
        except dns.resolver.NoNameservers as error:
            return Answer(why=f"the name server refused or failed: {str(error)[:200]}")
        except (dns.exception.DNSException, ValueError, UnicodeError) as error:
            return Answer(why=f"{type(error).__name__}: {str(error)[:200]}")
        alias = found.canonical_name.to_text(omit_final_dot=True)
        return Answer(
            records=tuple(_text(record, kind) for record in found) if found.rrset is not None else (),
            ttl_s=found.rrset.ttl if found.rrset is not None else 0,
            alias="" if alias.lower() == name.rstrip(".").lower() else alias,
            authentic=bool(found.response.flags & dns.flags.AD),
        )


def _text(record: object, kind: str) -> str:
    strings = getattr(record, "strings", None)
    if kind == "TXT" and strings is not None:
        return b"".join(strings).decode("utf-8", "replace")
    return str(record)


Fetch = Callable[[str, tuple[str, ...]], str]
"""(host, its addresses) -> the text of its MTA-STS policy. Raises OSError or ValueError with a sentence."""


def gather(
    resolver: Resolver,
    hostname: str,
    domains: tuple[str, ...],
    vips: tuple[str, ...],
    selectors: tuple[DkimSelector, ...],
    fetch: Fetch | None = None,
) -> DnsFacts:
    """Everything that is asked is kept by the resolver, for the judges to find."""
    ask = resolver.lookup
    hosts = {hostname} - {""}
    for domain in domains:
        hosts |= set(mx_hosts(ask(domain, "MX"))) - {""}
        for vip in vips:
            try:
                spf.check(domain, vip, ask)
            except (spf.Unknown, spf.Permanent):
                continue  # the judge will find the same
        for place in dmarc_places(domain):
            ask(place, "TXT")
    for vip in vips:
        for record in ask(ipaddress.ip_address(vip).reverse_pointer, "PTR").records:
            hosts.add(record.rstrip("."))
    for host in sorted(hosts):
        ask(host, "A")
        ask(host, "AAAA")
        ask(f"_25._tcp.{host}", "TLSA")
    for s in selectors:
        ask(f"{s.selector}._domainkey.{s.domain}", "TXT")
    policies, problems = _policies(resolver, domains, fetch or fetch_policy)
    return DnsFacts(
        hostname=hostname,
        domains=domains,
        answers=dict(resolver.answers),
        selectors=selectors,
        policies=policies,
        policy_problems=problems,
        down=resolver.down,
    )


def _policies(resolver: Resolver, domains: tuple[str, ...], fetch: Fetch) -> tuple[dict[str, str], dict[str, str]]:
    found: dict[str, str] = {}
    problems: dict[str, str] = {}
    for domain in domains:
        if not any(r.lower().startswith("v=stsv1") for r in resolver.lookup(f"_mta-sts.{domain}", "TXT").records):
            continue
        host = f"mta-sts.{domain}"
        addresses = (*resolver.lookup(host, "A").records, *resolver.lookup(host, "AAAA").records)
        try:
            found[domain] = fetch(host, addresses)
        except (OSError, ValueError, http.client.HTTPException) as error:
            problems[domain] = str(error) or type(error).__name__
    return found, problems


class _At(http.client.HTTPSConnection):
    """To the address that our resolver has found, with the name in the certificate checked."""

    def __init__(self, host: str, address: str) -> None:
        super().__init__(host, timeout=POLICY_TIMEOUT_S)
        self._address = address
        self._tls = ssl.create_default_context()

    def connect(self) -> None:
        plain = socket.create_connection((self._address, HTTPS_PORT), POLICY_TIMEOUT_S)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def fetch_policy(host: str, addresses: tuple[str, ...]) -> str:
    if not addresses:
        raise ValueError(f"{host} has no address")
    connection = _At(host, addresses[0])
    try:
        connection.request("GET", "/.well-known/mta-sts.txt")
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise ValueError(f"{host} answers {response.status}")
        return response.read(POLICY_BYTES_MAX).decode("utf-8", "replace")
    finally:
        connection.close()
