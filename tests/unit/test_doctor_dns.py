# ruff: noqa: E501 - records are long
"""Names and policies, asked of a name server of our own on loopback: never the real network."""

import hashlib
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dns_zone import serving
from doctor_support import CERTIFICATE, HOST, SPEC, findings, opinions

from hamail.doctor import resolve, spf
from hamail.doctor.checks import CHECKS, judged
from hamail.doctor.dns_facts import Answer, DkimSelector
from hamail.doctor.findings import Findings, Served
from hamail.doctor.line import Verdict
from hamail.doctor.questions import domains, hostname, selectors
from hamail.doctor.resolve import Resolver, gather
from hamail.model.machine import DkimKey
from hamail.model.spec import GroupSpec, ResourceSpec

OK, WARN, FAIL, UNKNOWN = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN
VIP, VIP6, NODE = "81.2.69.25", "2a02:2f0::25", "81.2.69.11"  # public ones: what is private is judged more mildly
KEY = (
    x509.load_der_x509_certificate(CERTIFICATE)
    .public_key()
    .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)
TLSA = hashlib.sha256(KEY).hexdigest()
POLICY = f"version: STSv1\nmode: enforce\nmx: {HOST}\nmax_age: 604800\n"
DKIM = DkimSelector(domain="example.org", selector="s1", public="QUJD", source="n1")

GOOD = {
    "mx": f"example.org. 300 IN MX 10 {HOST}.",
    "a": f"{HOST}. 300 IN A {VIP}",
    "aaaa": f"{HOST}. 300 IN AAAA {VIP6}",
    "ptr": f"25.69.2.81.in-addr.arpa. 300 IN PTR {HOST}.",
    "ptr6": "5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.f.2.0.2.0.a.2.ip6.arpa. 300 IN PTR " + f"{HOST}.",
    "spf": f'example.org. 300 IN TXT "v=spf1 mx ip6:{VIP6} -all"',
    "dkim": 's1._domainkey.example.org. 300 IN TXT "v=DKIM1; k=rsa; " "p=QUJD"',
    "dmarc": '_dmarc.example.org. 300 IN TXT "v=DMARC1; p=reject"',
    "sts": '_mta-sts.example.org. 300 IN TXT "v=STSv1; id=1"',
    "sts-a": f"mta-sts.example.org. 300 IN A {NODE}",
    "tlsa": f"_25._tcp.{HOST}. 300 IN TLSA 3 1 1 {TLSA}",
}


def spec() -> Any:
    vip = ResourceSpec(name="vip", agent="hamail:vip", parameters={"address": f"{VIP}/24 {VIP6}/64", "interface": "e"})
    mail = GroupSpec(name="mail", nodes=("n1", "n2"), resources=(*SPEC.groups["mail"].resources[:3], vip))
    return msgspec.structs.replace(SPEC, groups={"mail": mail})


def asked(
    zone: dict[str, str], policy: str | Exception = POLICY, chosen: tuple[DkimSelector, ...] = (DKIM,), **server: Any
) -> Findings:
    """The facts that a server with these records gives."""

    def fetch(host: str, addresses: tuple[str, ...]) -> str:
        assert host == "mta-sts.example.org"
        if isinstance(policy, Exception):
            raise policy
        return policy

    f = findings(spec=spec())
    with serving(*(record for record in zone.values() if record), **server) as (port, _):
        facts = gather(Resolver("127.0.0.1", port), HOST, ("example.org",), f.vips(), chosen, fetch)
    return msgspec.structs.replace(f, dns=facts)


def test_a_well_kept_domain() -> None:
    lines = judged(asked(GOOD), ("dns",))
    assert [line for line in lines if line.verdict is not OK] == []
    assert {line.check for line in lines} == {check.name for check in CHECKS if check.area == "dns"}


# check, records that are different, verdict, words
TABLE = [
    ("dns-address", {"a": ""}, OK, VIP6),
    ("dns-address", {"a": "", "aaaa": ""}, FAIL, "has no address"),
    ("dns-address", {"a": f"{HOST}. 300 IN A {NODE}"}, FAIL, "does not move with the group"),
    ("dns-mx", {"mx": ""}, FAIL, "has no MX"),
    ("dns-mx", {"mx": "example.org. 300 IN MX 10 alias.example.org.", "c": f"alias.example.org. 300 IN CNAME {HOST}."}, FAIL, "is an alias"),
    ("dns-mx", {"mx": "example.org. 300 IN MX 10 none.example.org."}, FAIL, "has no address"),
    ("dns-mx", {"mx": "example.org. 300 IN MX 10 o.example.org.", "o": f"o.example.org. 300 IN A {NODE}"}, WARN, "none of its MX"),
    ("dns-mx", {"a": f"{HOST}. 300 IN A {VIP}\n{HOST}. 300 IN A {NODE}"}, WARN, "also leads to"),
    ("dns-ptr", {"ptr": ""}, FAIL, "has no PTR"),
    ("dns-ptr", {"ptr": "25.69.2.81.in-addr.arpa. 300 IN PTR other.example.org."}, FAIL, "does not lead back"),
    ("dns-ptr", {"ptr": "25.69.2.81.in-addr.arpa. 300 IN PTR o.example.org.", "o": f"o.example.org. 300 IN A {VIP}"}, WARN, "but Postfix says"),
    ("dns-ttl", {"a": f"{HOST}. 86400 IN A {VIP}"}, WARN, "86400 s"),
    ("dns-spf", {"spf": ""}, WARN, "has no SPF"),
    ("dns-spf", {"spf": f'example.org. 300 IN TXT "v=spf1 ip4:{NODE} -all"'}, FAIL, f"says fail of {VIP}"),
    ("dns-spf", {"spf": 'example.org. 300 IN TXT "v=spf1 mx ?all"'}, WARN, "it refuses nobody"),
    ("dns-spf", {"spf": 'example.org. 300 IN TXT "v=spf1 mx"\nexample.org. 300 IN TXT "v=spf1 -all"'}, FAIL, "2 SPF records"),
    ("dns-spf", {"spf": 'example.org. 300 IN TXT "v=spf1 include:example.org -all"'}, FAIL, "includes itself"),
    ("dns-spf", {"spf": 'example.org. 300 IN TXT "v=spf1 ' + "a:x.example.org " * 11 + '-all"'}, FAIL, "more than 10 look-ups"),
    ("dns-spf", {"spf": 'example.org. 300 IN TXT "v=spf1 nonsense -all"'}, FAIL, "no mechanism"),
    ("dns-dkim", {"dkim": ""}, FAIL, "is not published"),
    ("dns-dkim", {"dkim": 's1._domainkey.example.org. 300 IN TXT "v=DKIM1; p="'}, FAIL, "is revoked"),
    ("dns-dkim", {"dkim": 's1._domainkey.example.org. 300 IN TXT "v=DKIM1; p=WFla"'}, FAIL, "is not the key"),
    ("dns-dmarc", {"dmarc": ""}, WARN, "has no DMARC"),
    ("dns-dmarc", {"dmarc": '_dmarc.example.org. 300 IN TXT "v=DMARC1; p=maybe"'}, FAIL, "no valid p="),
    ("dns-dmarc", {"dmarc": GOOD["dmarc"] + '\n_dmarc.example.org. 300 IN TXT "v=DMARC1; p=none"'}, FAIL, "more than one"),
    ("dns-mta-sts", {"sts": ""}, OK, "optional"),
    ("dns-tlsa", {"tlsa": ""}, OK, "optional"),
    ("dns-tlsa", {"tlsa": f"_25._tcp.{HOST}. 300 IN TLSA 3 1 1 {'0' * 64}"}, FAIL, "does not fit"),
    ("dns-tlsa", {"tlsa": f"_25._tcp.{HOST}. 300 IN TLSA 2 1 1 {TLSA}"}, UNKNOWN, "names an authority"),
    ("dns-tlsa", {"tlsa": f"_25._tcp.{HOST}. 300 IN TLSA 3 0 1 {hashlib.sha256(CERTIFICATE).hexdigest()}"}, OK, "fits"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changed", "verdict", "words"), TABLE, ids=range(len(TABLE)))
def test_judge(name: str, changed: dict[str, str], verdict: Verdict, words: str) -> None:
    found = opinions(name, asked({**GOOD, **changed}))
    said = [f"{o.reason} {o.remedy}" for o in found if o.verdict is verdict]
    assert any(words in text for text in said), found
    assert all(o.remedy for o in found if o.verdict in (FAIL, WARN))


@pytest.mark.parametrize(
    ("policy", "verdict", "words"),
    [
        (POLICY, OK, "mode enforce"),
        (POLICY.replace(HOST, "*.example.org"), OK, "covers"),
        (POLICY.replace(HOST, "old.example.org"), FAIL, "does not cover the MX"),
        (POLICY.replace(HOST, "old.example.org").replace("enforce", "testing"), WARN, "does not cover"),
        ("version: STSv1\nmode: odd\n", FAIL, "no valid version or mode"),
        (OSError("connection refused"), FAIL, "connection refused"),
    ],
)
def test_mta_sts_policies(policy: str | Exception, verdict: Verdict, words: str) -> None:
    (found,) = opinions("dns-mta-sts", asked(GOOD, policy))
    assert found.verdict is verdict and words in found.reason


def test_a_zone_without_dnssec_makes_tlsa_useless() -> None:
    assert [o.verdict for o in opinions("dns-tlsa", asked(GOOD, authentic=False))].count(WARN) == 1


def test_tlsa_against_what_is_served_and_without_any_certificate() -> None:
    f = asked(GOOD)
    other = msgspec.structs.replace(f, served={f"SMTP {VIP}:25": Served(der=b"not a certificate")})
    assert any(o.verdict is FAIL and f"SMTP {VIP}" in o.reason for o in opinions("dns-tlsa", other))
    bare = msgspec.structs.replace(f, reports={})
    assert opinions("dns-tlsa", bare)[0].verdict is UNKNOWN


def test_a_server_that_fails_for_a_name_leaves_it_unknown() -> None:
    f = asked(GOOD, refuse=("example.org", "_dmarc", "_mta", "s1.", "_25", "25.69"))
    verdicts = {
        check: {o.verdict for o in opinions(check, f)} for check in ("dns-mx", "dns-dmarc", "dns-dkim", "dns-spf")
    }
    assert all(found == {UNKNOWN} for found in verdicts.values()), verdicts
    assert not [line for line in judged(f, ("dns",)) if line.verdict is FAIL]


def test_no_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "LIFETIME_S", 0.2)
    f = asked(GOOD, deaf=True)
    lines = judged(f, ("dns",))
    assert {line.verdict for line in lines} == {UNKNOWN} and "no name server answers" in lines[0].reason
    assert f.dns is not None and len(f.dns.answers) <= 3, "it must not wait for every name"


def test_a_large_answer_comes_over_tcp() -> None:
    long = " ".join(f'"ip4:10.0.{i}.0/24 "' for i in range(60))
    record = f'example.org. 300 IN TXT "v=spf1 " {long} "mx ip6:{VIP6} -all"'
    assert {o.verdict for o in opinions("dns-spf", asked({**GOOD, "spf": record}))} == {OK}


def test_dmarc_of_the_domain_above() -> None:
    f = findings(spec=spec())
    with serving(GOOD["dmarc"]) as (port, _):
        facts = gather(Resolver("127.0.0.1", port), HOST, ("lists.example.org",), (), ())
    (found,) = opinions("dns-dmarc", msgspec.structs.replace(f, dns=facts))
    assert found.verdict is OK and "_dmarc.example.org" in found.reason


def test_what_to_ask_comes_from_postfix_and_the_keys() -> None:
    f = findings(n1={"dkim": (DkimKey(domain="example.org", selector="s9", public="QQ=="),)})
    assert hostname(f) == HOST and domains(f) == ("example.org",)
    found = selectors(f, ("a", "example.net:b"), ("example.org", "example.com"))
    assert [(s.domain, s.selector, s.source) for s in found] == [
        ("example.org", "a", "given"), ("example.com", "a", "given"), ("example.net", "b", "given"), ("example.org", "s9", "n1"),
    ]  # fmt: skip


def test_a_key_that_cannot_be_used_and_no_selector_at_all() -> None:
    broken = DkimSelector(domain="example.org", selector="s1", source="n2", problem="cannot be read")
    (found,) = opinions("dns-dkim", asked(GOOD, chosen=(broken,)))
    assert found.verdict is FAIL and "on n2" in found.reason
    assert opinions("dns-dkim", asked(GOOD, chosen=()))[0].verdict is UNKNOWN


def test_a_private_address_behind_nat_is_no_failure() -> None:
    f = findings()  # its floating address is of a documentation network
    with serving(GOOD["mx"], GOOD["a"], f'example.org. 300 IN TXT "v=spf1 ip4:{VIP} -all"') as (port, _):
        facts = gather(Resolver("127.0.0.1", port), HOST, ("example.org",), f.vips(), ())
    f = msgspec.structs.replace(f, dns=facts)
    assert opinions("dns-ptr", f)[0].verdict is UNKNOWN and opinions("dns-spf", f)[0].verdict is UNKNOWN


def test_only_the_given_server_is_asked() -> None:
    with serving(*GOOD.values()) as (port, server):
        gather(Resolver("127.0.0.1", port), HOST, ("example.org",), (VIP,), (DKIM,), lambda *_: POLICY)
        names = {question.split()[0] for question in server.asked}
    assert f"{HOST}." in names and "25.69.2.81.in-addr.arpa." in names
    with pytest.raises(ValueError):
        Resolver("not-an-address")


# ---- SPF by itself ---------------------------------------------------------------------------------------------------


def spf_says(record: str, address: str = VIP, **more: str) -> str:
    zone = {"example.org TXT": (record,), **{name.replace("_", " "): (value,) for name, value in more.items()}}
    lookup = lambda name, kind: Answer(records=zone.get(f"{name} {kind}", ()))  # noqa: E731
    return spf.check("example.org", address, lookup).verdict


@pytest.mark.parametrize(
    ("record", "more", "verdict"),
    [
        ("v=spf1 ip4:81.2.69.0/24 -all", {}, "pass"),
        ("v=spf1 -ip4:81.2.69.0/24 +all", {}, "fail"),
        ("v=spf1 a/24 ~all", {"example.org_A": "81.2.69.1"}, "pass"),
        ("v=spf1 a:h.x/32 ~all", {"h.x_A": "81.2.69.1"}, "softfail"),
        ("v=spf1 mx -all", {"example.org_MX": "10 h.x.", "h.x_A": VIP}, "pass"),
        ("v=spf1 include:o.x -all", {"o.x_TXT": "v=spf1 ip4:81.2.69.25 -all"}, "pass"),
        ("v=spf1 include:o.x ?all", {"o.x_TXT": "v=spf1 -all"}, "neutral"),
        ("v=spf1 redirect=o.x", {"o.x_TXT": "v=spf1 ip4:81.2.69.25 -all"}, "pass"),
        ("v=spf1 exists:%{i}.x exp=y -all", {}, "fail"),
        ("v=spf1", {}, "neutral"),
        ("something else", {}, "none"),
        ("v=spf1 ip6:2a02::/16 -all", {}, "fail"),
    ],
)
def test_spf(record: str, more: dict[str, str], verdict: str) -> None:
    assert spf_says(record, **more) == verdict


@pytest.mark.parametrize("record", ["v=spf1 ip4:none -all", "v=spf1 what -all"])
def test_broken_spf(record: str) -> None:
    with pytest.raises(spf.Permanent):
        spf_says(record)
