"""Becoming a node: who gets a certificate, for which name, and who does not."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hamail.enrol import issuer as issuer_module
from hamail.enrol.client import Ask, AskError, Pair, anyone, by_token
from hamail.enrol.issuer import REFUSALS_PER_MINUTE, Issuer, Peer
from hamail.enrol.messages import Check, Joined, MayI, Noted, Offer, Orders, Renew, Renewed
from hamail.enrol.names import node_of
from hamail.enrol.server import CONNECTIONS_PER_HOST_MAX
from hamail.enrol.token import PREFIX, Token, TokenError, read_token, write_token
from hamail.enrol.tokens import OPEN_MAX, WRONG_MAX, TokenRefused
from hamail.pki.authority import create_authority, load_authority, new_key, private_pem, public_pem, sign_node
from hamail.pki.keep import Keep, Phase, fingerprint
from hamail.pki.request import new_request
from tests.unit.enrol_kit import MINUTE_NS, Room, credential, join, member, served


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    yield from served(tmp_path, monkeypatch)


def names(certificate: str) -> str:
    return node_of(x509.load_pem_x509_certificate(certificate.encode()), "mail")


# The token's text

TOKEN = Token(cluster="mail", host="10.0.0.11", port=7462, fingerprint=bytes(range(32)), id=b"123456", secret=b"s" * 20)


def test_a_token_is_read_as_it_was_written_also_with_broken_lines() -> None:
    text = write_token(TOKEN)
    assert read_token(text) == TOKEN
    assert read_token(f"  {text[:50]}\n   {text[50:]}\n") == TOKEN


@pytest.mark.parametrize("cut", [1, 2, 5, 60])
def test_a_token_that_was_cut_or_mistyped_is_noticed(cut: int) -> None:
    text = write_token(TOKEN)
    with pytest.raises(TokenError, match="not whole"):
        read_token(text[:-cut])
    other = "A" if text[-cut - 3] != "A" else "B"
    with pytest.raises(TokenError, match="not whole"):
        read_token(text[: -cut - 3] + other + text[-cut - 2 :])


@pytest.mark.parametrize("text", ["", "hamail", PREFIX, PREFIX + "!!!!", PREFIX + "AAAA" * 400, "x" * 5000, "\0"])
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(TokenError):
        read_token(text)


def test_a_token_is_never_printed_with_its_secret() -> None:
    assert "ssss" not in repr(TOKEN) and TOKEN.secret.hex() not in repr(credential(TOKEN))


# Joining


def test_a_node_joins(room: Room) -> None:
    welcome, key = join(room.token(), "n2")
    assert names(welcome.certificate) == "n2" and not welcome.rejoining
    assert welcome.secrets == {f"{room.secrets}/pdu": "canary-of-the-pdu\n"}
    assert "PRIVATE" not in welcome.certificate + welcome.authorities
    member(room, welcome, key)(Joined(), Noted)
    assert room.keep.state.joined == ("n1", "n2")
    assert '"what": "issued"' in room.told() and '"what": "joined"' in room.told()
    assert "canary" not in room.told()


def test_a_witness_gets_no_secrets(room: Room) -> None:
    welcome, _ = join(room.token(witness=True), "n3", witness=True)
    assert names(welcome.certificate) == "n3" and welcome.secrets == {}


def test_the_machine_is_found_by_its_address(room: Room) -> None:
    token = room.token()
    offer = by_token(token)(MayI(credential=credential(token), addresses=("127.0.0.1", "10.0.0.12")), Offer)
    assert offer.node == "n2"
    with pytest.raises(AskError, match="none of the addresses") as caught:
        by_token(token)(MayI(credential=credential(token), addresses=("10.9.9.9",)), Offer)
    assert "n2 10.0.0.12" in caught.value.hint


def test_a_node_that_was_set_up_before_is_told_so(room: Room) -> None:
    """Its new journal must stand for a lost one: an empty one that votes could vote twice."""
    welcome, key = join(room.token(), "n2")
    again, _ = join(room.token(), "n2")
    assert not again.rejoining, "a try that was never finished is no membership"
    member(room, welcome, key)(Joined(), Noted)
    assert join(room.token(node="n2"), "n2")[0].rejoining


# Who does not


def test_a_token_is_good_once(room: Room) -> None:
    token = room.token()
    join(token, "n2")
    with pytest.raises(AskError, match="used already, by n2"):
        join(token, "n2")
    assert "used already" in room.told()


def test_the_same_request_is_answered_again(room: Room) -> None:
    """The answer may have been lost on the way."""
    token = room.token()
    _, request = new_request("mail", "n2")
    assert names(join(token, "n2", request=request)[0].certificate) == "n2"
    assert names(join(token, "n2", request=request)[0].certificate) == "n2"


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_token_for_a_role_makes_nobody_into_a_node_that_is_there(room: Room, node: str) -> None:
    """Whoever gets hold of it must not be able to become the node that keeps the authority, or one that serves."""
    room.keep.joined("n2")
    with pytest.raises(AskError, match="is a node already") as caught:
        join(room.token(), node)
    assert f"hamailctl token create --node {node}" in caught.value.hint
    assert names(join(room.token(node=node), node)[0].certificate) == node


def test_a_token_runs_out(room: Room) -> None:
    token = room.token(minutes=30)
    room.now_ns += 30 * MINUTE_NS
    with pytest.raises(AskError, match="has run out"):
        join(token, "n2")


def test_wrong_secrets_close_the_token(room: Room) -> None:
    token = room.token()
    wrong = msgspec.structs.replace(token, secret=b"x" * 20)
    for _ in range(WRONG_MAX - 1):
        with pytest.raises(AskError, match="wrong secret"):
            join(wrong, "n2")
    with pytest.raises(AskError, match="the token is closed"):
        join(wrong, "n2")
    with pytest.raises(AskError, match="not open"):
        join(token, "n2")
    assert room.told().count("wrong secret") == WRONG_MAX


def test_who_does_not_know_a_token_can_close_none(room: Room) -> None:
    token = room.token()
    for number in range(2 * WRONG_MAX):
        with pytest.raises(AskError, match="not open"):
            join(msgspec.structs.replace(token, id=bytes([number]) * 6), "n2")
    join(token, "n2")


def test_the_secret_goes_to_nobody_else(room: Room, tmp_path: Path) -> None:
    """Somebody in between answers with an authority of his own: he hears no secret."""
    other = tmp_path / "other"
    other.mkdir()
    false = Room(other)
    heard: list[object] = []
    real = false.issuer.answer
    false.issuer.answer = lambda request, peer: (heard.append(request), real(request, peer))[1]
    false.serve()
    try:
        with pytest.raises(AskError, match="not the machine that made this token") as caught:
            join(msgspec.structs.replace(room.token(), port=false.port), "n2")
        assert "The secret was not sent" in caught.value.hint
        assert [type(request).__name__ for request in heard] == ["WhoAreYou"]
    finally:
        false.close()


def test_a_node_s_certificate_does_not_make_an_issuer(room: Room) -> None:
    """A hostile hamaild has a genuine certificate, and the authority's certificate is public."""
    key = new_key()
    certificate = sign_node(load_authority(room.folder / "keep" / "1"), "n1", key.public_key(), days=10)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = room.folder / "n1.pem"
    file.write_bytes(private_pem(key) + public_pem(certificate))
    context.load_cert_chain(file)
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    import threading

    def answer() -> None:
        connection, _ = listener.accept()
        try:
            with context.wrap_socket(connection, server_side=True) as tls:
                heard.append(tls.recv(100))
        except OSError:
            pass

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    ask = Ask(listener.getsockname()[:2], "mail", room.keep.bundle())
    token = room.token()
    with pytest.raises(AskError, match="does not keep the authority"):
        ask(MayI(credential=credential(token), addresses=()), Offer)
    thread.join(10)
    listener.close()
    assert heard in ([], [b""])


@pytest.mark.parametrize(
    ("node", "witness", "made_for", "why"),
    [
        ("n3", False, {}, "this token is for a mail server, and n3 is not"),
        ("n2", False, {"witness": True}, "this token is for the witness, and n2 is not"),
        ("n2", False, {"node": "n1"}, "this token is for n1, not for n2"),
        ("n9", False, {}, "no node is called 'n9'"),
        ("n3", False, {"witness": True}, "n3 is a witness"),
        ("n2", True, {}, "n2 is not a witness"),
    ],
)
def test_a_token_is_for_its_role(room: Room, node: str, witness: bool, made_for: dict, why: str) -> None:
    token = room.token(**made_for)
    with pytest.raises(AskError, match=why):
        join(token, node, witness=witness)
    right = made_for.get("node") or ("n3" if made_for.get("witness") else "n2")
    join(token, right, witness=right == "n3")  # nothing was used up


def swapped_name() -> str:
    return new_request("mail", "n1")[1]


def other_cluster() -> str:
    return new_request("post", "n2")[1]


def altered() -> str:
    der = bytearray(
        x509.load_pem_x509_csr(new_request("mail", "n2")[1].encode()).public_bytes(serialization.Encoding.DER)
    )
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()


def wishes(*names: x509.GeneralName, authority: bool = False, key: object = None) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


N2 = x509.UniformResourceIdentifier("hamail://mail/n2")
TAMPERED = {
    "another node": (swapped_name, "names hamail://mail/n1, not node n2"),
    "another cluster": (other_cluster, "names hamail://post/n2"),
    "altered on the way": (altered, "not signed with its own key"),
    "a second name": (lambda: wishes(N2, x509.DNSName("n1")), "names hamail://mail/n2, n1"),
    "no name": (lambda: wishes(x509.DNSName("")), "names "),
    "wants to be an authority": (lambda: wishes(N2, authority=True), "extension 2.5.29.19"),
    "another kind of key": (
        lambda: wishes(N2, key=rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        "not for a key on the curve",
    ),
    "garbage": (lambda: "garbage", "cannot be read"),
    "huge": (lambda: "x" * 5000, "is over 4096 bytes"),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_tampered_request_is_refused(room: Room, kind: str) -> None:
    make, why = TAMPERED[kind]
    token = room.token()
    with pytest.raises(AskError, match=why):
        join(token, "n2", request=make())
    assert '"what": "issued"' not in room.told()
    join(token, "n2")  # the token is still good


def test_so_many_tokens_and_no_more(room: Room) -> None:
    for _ in range(OPEN_MAX):
        room.token()
    with pytest.raises(TokenRefused, match="token close"):
        room.token()
    room.now_ns += 31 * MINUTE_NS
    room.token()


def test_secrets_are_kept_from_others(room: Room) -> None:
    room.token()
    files = [*room.tokens.folder.iterdir(), *room.keep.folder.rglob("*.key"), room.keep.folder / "state.json"]
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}
    assert room.tokens.folder.stat().st_mode & 0o077 == 0


def test_no_secret_lies_on_the_disk(room: Room) -> None:
    token = room.token()
    join(token, "n2")
    for file in room.folder.rglob("*"):
        assert not file.is_file() or token.secret.hex().encode() not in file.read_bytes()


def test_garbage_is_answered_with_a_refusal(room: Room) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=room.keep.bundle())
    for line in (b"\n", b"{}\n", b'{"ask":"join"}\n', b"\xff\xfe\n", b"[" * 3000 + b"\n"):
        with socket.create_connection(("127.0.0.1", room.port)) as plain, context.wrap_socket(plain) as tls:
            tls.sendall(line)
            assert b'"refused"' in tls.recv(4096)


def test_a_line_without_end_is_hung_up_on(room: Room) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=room.keep.bundle())
    with socket.create_connection(("127.0.0.1", room.port)) as plain, context.wrap_socket(plain) as tls:
        try:
            tls.sendall(b"x" * 100_000)
            assert tls.recv(100) == b""
        except OSError:
            pass


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_handshakes_that_are_never_finished_are_few(room: Room) -> None:
    """Each costs memory, and the issuer has little: what kills it often enough closes its port for good."""
    held = [socket.create_connection(("127.0.0.1", room.port)) for _ in range(CONNECTIONS_PER_HOST_MAX)]
    wait_for(lambda: room.server._hosts.total() == len(held))
    with socket.create_connection(("127.0.0.1", room.port), timeout=3) as one_more:
        assert one_more.recv(1) == b"", "hung up on at once, not when its handshake has taken too long"
    for one in held:
        one.close()
    wait_for(lambda: not room.server._hosts)
    assert join(room.token(), "n2")


def test_refusals_do_not_push_what_was_issued_out_of_the_audit(room: Room) -> None:
    peer = Peer("10.9.9.9")
    for _ in range(3 * REFUSALS_PER_MINUTE):
        room.issuer.answer(Joined(), peer)
    assert room.told().count("10.9.9.9") == REFUSALS_PER_MINUTE and len(room.told().splitlines()) < 40
    room.now_ns += MINUTE_NS
    room.issuer.answer(Joined(), peer)
    assert room.told().count("10.9.9.9") == REFUSALS_PER_MINUTE + 1
    assert join(room.token(), "n2") and '"what": "issued"' in room.told()


# With a certificate


def test_without_a_certificate_nothing_is_renewed(room: Room) -> None:
    ask = Ask(("127.0.0.1", room.port), "mail", room.keep.bundle())
    for request in (Check(trusts=()), Renew(request=new_request("mail", "n2")[1]), Joined()):
        with pytest.raises(AskError, match="to nodes only"):
            ask(request, Noted)


def test_a_certificate_of_another_authority_is_nothing(room: Room, tmp_path: Path) -> None:
    create_authority(tmp_path / "x", "mail")
    key = new_key()
    certificate = sign_node(load_authority(tmp_path / "x"), "n2", key.public_key(), days=10)
    pair = Pair(pem=(private_pem(key) + public_pem(certificate)).decode())
    with pytest.raises(AskError):
        Ask(("127.0.0.1", room.port), "mail", room.keep.bundle(), pair)(Check(trusts=()), Orders)


def test_a_node_renews_itself_and_nobody_else(room: Room) -> None:
    welcome, key = join(room.token(), "n2")
    ask = member(room, welcome, key)
    new, request = new_request("mail", "n2")
    renewed = ask(Renew(request=request), Renewed)
    assert names(renewed.certificate) == "n2" and renewed.certificate != welcome.certificate
    with pytest.raises(AskError, match="names hamail://mail/n1"):
        ask(Renew(request=new_request("mail", "n1")[1]), Renewed)
    assert new not in room.told()


def test_a_node_that_is_none_any_more_is_refused(room: Room) -> None:
    welcome, key = join(room.token(), "n2")
    room.cluster_file.write_text(room.cluster_file.read_text().replace("n2", "n4"))
    with pytest.raises(AskError, match="n2 is not a node of cluster mail any more"):
        member(room, welcome, key)(Check(trusts=()), Orders)


def test_who_keeps_the_authority_is_found_among_the_nodes(room: Room) -> None:
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    welcome, key = join(room.token(), "n2")
    pair = Pair(pem=key + welcome.certificate)
    ask = anyone([("127.0.0.1", port), ("127.0.0.1", room.port)], "mail", welcome.authorities, pair)
    assert not ask(Check(trusts=()), Orders).renew
    with pytest.raises(AskError, match="no node keeps the authority"):
        anyone([("127.0.0.1", port)], "mail", welcome.authorities, pair)


def test_a_certificate_is_renewed_months_before_it_ends(room: Room) -> None:
    later = datetime.now(UTC) + timedelta(days=500)
    room.issuer = Issuer(room.keep, room.tokens, room.audit, room.cluster_file, lambda: room.now_ns, lambda: later)
    welcome, _ = join(room.token(), "n2")
    peer_certificate = x509.load_pem_x509_certificate(welcome.certificate.encode())
    answer, _ = room.issuer.answer(Check(trusts=()), issuer_module.Peer("h", "n2", peer_certificate))
    assert isinstance(answer, Orders) and answer.renew


# Another authority


def test_the_authority_changes_without_a_moment_of_distrust(room: Room) -> None:
    """At every step each node's certificate must be good in the eyes of every other one."""
    holds = {node: join(room.token(node=node, witness=node == "n3"), node, node == "n3") for node in ("n1", "n2", "n3")}
    held = {node: (w.certificate, w.authorities, key) for node, (w, key) in holds.items()}
    first = room.keep.bundle()
    room.keep.begin_change()
    with pytest.raises(Exception, match="under way already"):
        room.keep.begin_change()
    phases = []
    for _ in range(5):
        for node, (certificate, authorities, key) in list(held.items()):
            pair = Pair(pem=key + certificate)
            ask = Ask(("127.0.0.1", room.port), "mail", authorities, pair)
            orders = ask(Check(trusts=fingerprints(authorities)), Orders)
            if orders.renew:
                key, request = new_request("mail", node)  # noqa: PLW2901
                certificate = ask(Renew(request=request), Renewed).certificate  # noqa: PLW2901
            held[node] = (certificate, orders.authorities, key)
            phases.append(room.keep.state.phase)
            for one, (shown, _, _) in held.items():
                for other, (_, trusted, _) in held.items():
                    assert good(shown, trusted), f"{other} would not believe {one} in phase {phases[-1]}"
    assert list(dict.fromkeys(phases)) == [Phase.INTRODUCING, Phase.CHANGING, Phase.SETTLED]
    assert {authorities for _, authorities, _ in held.values()} == {room.keep.bundle()} != {first}
    assert not (room.keep.folder / "1").exists(), "the old key is gone"
    assert room.told().count('"what": "authority"') == 2


def test_what_a_former_authority_has_certified_is_refused_at_once(room: Room) -> None:
    """By the process that was running when it was forgotten as well: a stolen certificate must not outlive a change."""
    welcome, key = join(room.token(), "n2")
    stolen = Pair(pem=key + welcome.certificate)
    room.keep.begin_change()
    room.keep.advance(())
    room.keep.advance(())
    assert room.keep.state.phase is Phase.SETTLED
    for _ in range(2):  # the first one meets a context of before; after it there is a new one
        ask = Ask(("127.0.0.1", room.port), "mail", welcome.authorities + room.keep.bundle(), stolen)
        with pytest.raises(AskError):
            ask(Renew(request=new_request("mail", "n2")[1]), Renewed)
    assert '"what": "renewed"' not in room.told() and "no longer trusted" in room.told()


def test_a_node_that_is_away_holds_the_change_up(room: Room) -> None:
    held = {node: join(room.token(node=node), node) for node in ("n1", "n2")}
    room.keep.begin_change()
    for _ in range(3):
        for welcome, key in held.values():
            member(room, welcome, key)(Check(trusts=fingerprints(room.keep.bundle())), Orders)
    assert room.keep.state.phase is Phase.INTRODUCING
    assert room.keep.waiting_for(("n1", "n2", "n3")) == ("n3",)


def test_a_change_that_was_cut_off_can_begin_again(tmp_path: Path) -> None:
    keep = Keep(tmp_path / "keep")
    keep.create("mail")
    create_authority(tmp_path / "keep" / "2", "mail")  # and then the power went
    assert len(keep.trusted()) == 1
    keep.begin_change()
    assert len(keep.trusted()) == 2


def fingerprints(bundle: str) -> tuple[str, ...]:
    return tuple(fingerprint(c) for c in x509.load_pem_x509_certificates(bundle.encode()))


def good(certificate: str, authorities: str) -> bool:
    loaded = x509.load_pem_x509_certificate(certificate.encode())
    for authority in x509.load_pem_x509_certificates(authorities.encode()):
        if loaded.issuer == authority.subject and issuer_module._signed_by(loaded, authority):
            return True
    return False
