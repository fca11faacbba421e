"""SPF, DKIM, DMARC, MTA-STS and TLSA: will others take the mail, and trust the server, from the floating address?"""

import hashlib
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hamail.doctor import spf as rules
from hamail.doctor.dns_facts import DnsFacts
from hamail.doctor.findings import Findings
from hamail.doctor.line import Opinion, Opinions, fail, ok, unknown, warn
from hamail.doctor.names import mx_hosts, usable

MTA_STS_MAX_AGE_LOW_S = 86_400
DANE_EE, DANE_TA = 3, 2


def spf(f: Findings) -> Opinions:
    dns = usable(f)
    for domain in dns.domains if dns else ():
        assert dns is not None
        for vip in f.vips() or ("",):
            yield _spf_of(dns, domain, vip)


def _spf_of(dns: DnsFacts, domain: str, vip: str) -> Opinion:
    wish = f'publish: {domain} TXT "v=spf1 ip{6 if ":" in vip else 4}:{vip} mx -all"'
    if not vip:
        return unknown(domain, "no group has a floating address to look for in SPF")
    try:
        result = rules.check(domain, vip, dns.get)
    except rules.Unknown as error:
        return unknown(domain, f"its SPF is not known: {error}")
    except rules.Permanent as error:
        return fail(domain, f"its SPF is broken: {error}", "mend the record: one only, with few includes")
    if result.verdict == "none":
        return warn(domain, "has no SPF", wish)
    if result.verdict != "pass":
        text = f"its SPF says {result.verdict} of {vip}: mail sent from the floating address is refused or suspected"
        private = ipaddress.ip_address(vip).is_private
        if private:
            return unknown(domain, f"{text}; it is a private address, so a public one may stand for it")
        return fail(domain, text, f"add ip{6 if ':' in vip else 4}:{vip} to its SPF")
    if result.ends not in ("-all", "~all", "redirect"):
        text = f"its SPF allows {vip}, but ends with {result.ends or 'nothing'}: it refuses nobody"
        return warn(domain, text, "let it end with -all, or ~all")
    return ok(domain, f"its SPF allows {vip} ({result.lookups} look-ups)")


def dkim(f: Findings) -> Opinions:
    dns = usable(f)
    if dns is None:
        return
    if not dns.selectors:
        yield unknown("DKIM", "no selector is known", "hamailctl doctor --selector NAME")
    for s in dns.selectors:
        name = f"{s.selector}._domainkey.{s.domain}"
        answer = dns.get(name, "TXT")
        if s.problem:
            yield fail(name, f"its key on {s.source} cannot be used: {s.problem}", f"mend it on {s.source}")
            continue
        tags = next((t for r in answer.records if (t := _tags(r)).get("p") is not None), None)
        published = (tags or {}).get("p", "").replace(" ", "")
        if answer.why:
            yield unknown(name, f"not known: {answer.why}")
        elif tags is None:
            yield fail(
                name, "is not published: signatures cannot be verified", f"publish {name} TXT with the public key"
            )
        elif not published:
            yield fail(name, "is revoked (empty p=)", "publish the key, or sign with another selector")
        elif s.public and published != s.public:
            text = f"is not the key that {s.source} signs with: signatures will not verify"
            yield fail(name, text, "publish the public half of that key, or copy the right key to both nodes")
        else:
            yield ok(name, f"is published{f', and is the key of {s.source}' if s.public else ''}")


def _tags(record: str) -> dict[str, str]:
    """ "v=DMARC1; p=none" -> {...}; keys in small letters."""
    pairs = (part.partition("=") for part in record.split(";"))
    return {key.strip().lower(): value.strip() for key, separator, value in pairs if separator}


def dmarc(f: Findings) -> Opinions:
    dns = usable(f)
    for domain in dns.domains if dns else ():
        assert dns is not None
        places = dmarc_places(domain)
        answers = [dns.get(place, "TXT") for place in places]
        found = [
            (place, _tags(record))
            for place, answer in zip(places, answers, strict=True)
            for record in answer.records
            if record.lower().startswith("v=dmarc1")
        ]
        if not found:
            why = next((a.why for a in answers if a.why), "")
            if why:
                yield unknown(domain, f"its DMARC is not known: {why}")
            else:
                yield warn(domain, "has no DMARC", f'publish: _dmarc.{domain} TXT "v=DMARC1; p=none; rua=mailto:..."')
            continue
        place, tags = found[0]
        if len([one for one, _ in found if one == place]) > 1:
            yield fail(domain, f"{place} has more than one DMARC record: none counts", "leave one")
        elif tags.get("p", "").lower() not in ("none", "quarantine", "reject"):
            yield fail(domain, f"its DMARC has no valid p= ({tags.get('p', '')!r})", "p=none, quarantine or reject")
        else:
            yield ok(domain, f"DMARC p={tags['p'].lower()} ({place})")


def dmarc_places(domain: str) -> list[str]:
    """The domain's own record, else that of the domain above it."""
    labels = domain.split(".")
    return [f"_dmarc.{domain}"] + ([f"_dmarc.{'.'.join(labels[1:])}"] if len(labels) > 2 else [])


def mta_sts(f: Findings) -> Opinions:
    dns = usable(f)
    for domain in dns.domains if dns else ():
        assert dns is not None
        answer = dns.get(f"_mta-sts.{domain}", "TXT")
        announced = [r for r in answer.records if r.lower().startswith("v=stsv1")]
        if answer.why:
            yield unknown(domain, f"whether it has MTA-STS is not known: {answer.why}")
        elif not announced:
            yield ok(domain, "no MTA-STS, which is optional")
        elif domain in dns.policy_problems:
            text = f"announces MTA-STS, but its policy cannot be had: {dns.policy_problems[domain]}"
            yield fail(
                domain, text, f"serve it at https://mta-sts.{domain}/.well-known/mta-sts.txt, not on this pair only"
            )
        elif domain not in dns.policies:
            yield unknown(domain, "its MTA-STS policy was not asked for")
        else:
            yield _policy(dns, domain, dns.policies[domain])


def _policy(dns: DnsFacts, domain: str, text: str) -> Opinion:
    pairs = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in text.splitlines())]
    patterns = [value.lower().rstrip(".") for key, value in pairs if key == "mx"]
    fields = dict(pairs)
    hosts = mx_hosts(dns.get(domain, "MX"))
    missing = [host for host in hosts if not any(_covers(pattern, host.lower()) for pattern in patterns)]
    if fields.get("version") != "STSv1" or fields.get("mode") not in ("enforce", "testing", "none"):
        return fail(domain, "its MTA-STS policy has no valid version or mode", "version: STSv1, mode: enforce|testing")
    if missing and fields["mode"] != "none":
        say = fail if fields["mode"] == "enforce" else warn
        text = f"its MTA-STS policy does not cover the MX {', '.join(missing)}: mail to it is not delivered"
        return say(domain, text, "add `mx:` lines, and give the TXT record a new id")
    return ok(domain, f"MTA-STS, mode {fields['mode']}, covers {', '.join(hosts) or 'its MX'}")


def _covers(pattern: str, host: str) -> bool:
    return host == pattern or (pattern.startswith("*.") and host.partition(".")[2] == pattern[2:])


def tlsa(f: Findings) -> Opinions:
    """Published fingerprints must fit the certificate of every node: after a move the other one's is seen."""
    dns = usable(f)
    if dns is None:
        return
    hosts = {host for domain in dns.domains for host in mx_hosts(dns.get(domain, "MX")) if host} | {dns.hostname} - {""}
    shown: dict[str, bytes] = {}
    for node, machine in f.machines().items():
        if "SMTP" in machine.certificates and machine.certificates["SMTP"].der:
            shown[f"the certificate of {node}"] = machine.certificates["SMTP"].der
    shown |= {f"what {place} shows": s.der for place, s in f.served.items() if place.startswith("SMTP") and s.der}
    for host in sorted(hosts - {""}):
        name = f"_25._tcp.{host}"
        answer = dns.get(name, "TLSA")
        if answer.why:
            yield unknown(name, f"not known: {answer.why}")
        elif not answer.records:
            yield ok(name, "no TLSA, which is optional")
        elif not shown:
            yield unknown(name, "there is no certificate here to compare it with")
        else:
            yield from _tlsa_of(name, answer.records, answer.authentic, shown)


def _tlsa_of(name: str, records: tuple[str, ...], authentic: bool, shown: dict[str, bytes]) -> Opinions:
    parsed = [r.split(None, 3) for r in records]
    wanted = [(int(u), int(s), int(m), data.replace(" ", "").lower()) for u, s, m, data in parsed]
    for what, der in shown.items():
        results = [_fits(der, *record) for record in wanted]
        if any(results):
            yield ok(name, f"fits {what}")
        elif all(usage == DANE_TA for usage, *_ in wanted):
            yield unknown(name, f"names an authority; whether it signed {what} is not looked at")
        else:
            text = f"does not fit {what}: senders that use DANE will deliver nothing"
            yield fail(
                name, text, "publish TLSA 3 1 1 of that key first, wait for the TTL, then change the certificate"
            )
    if not authentic:
        yield warn(name, "the resolver does not vouch for it (no DNSSEC): senders ignore it", "sign the zone")


def _fits(der: bytes, usage: int, selector: int, matching: int, data: str) -> bool:
    if usage not in (DANE_EE, 1):
        return False
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        return False
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    chosen = key if selector == 1 else der
    digest = {0: chosen.hex(), 1: hashlib.sha256(chosen).hexdigest(), 2: hashlib.sha512(chosen).hexdigest()}
    return digest.get(matching) == data
