"""The cluster's authority and node certificates, as files and through the command line."""

import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from hamail.pki import PkiError, create_authority, describe, issue

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ca(tmp_path):
    create_authority(tmp_path / "ca", "mail")
    return tmp_path / "ca"


def test_keys_are_readable_by_their_owner_only(ca, tmp_path):
    issue(ca, "mail", "n1", tmp_path / "n1")
    for key in (ca / "ca.key", tmp_path / "n1" / "node.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_certificate_carries_the_node_as_its_only_name(ca, tmp_path):
    path = issue(ca, "mail", "n1", tmp_path / "n1")
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [n.value for n in names] == ["hamail://mail/n1"]
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


def test_issued_files_make_a_tls_context(ca, tmp_path):
    issue(ca, "mail", "n1", tmp_path / "n1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "n1" / "node.pem", tmp_path / "n1" / "node.key")
    context.load_verify_locations(tmp_path / "n1" / "ca.pem")


def test_the_authority_s_key_is_not_handed_to_nodes(ca, tmp_path):
    issue(ca, "mail", "n1", tmp_path / "n1")
    assert sorted(p.name for p in (tmp_path / "n1").iterdir()) == ["ca.pem", "node.key", "node.pem"]


def test_valid_on_a_machine_whose_clock_battery_is_empty(ca, tmp_path):
    path = issue(ca, "mail", "n1", tmp_path / "n1")
    assert x509.load_pem_x509_certificate(path.read_bytes()).not_valid_before_utc == datetime(1970, 1, 1, tzinfo=UTC)


def test_an_authority_is_never_overwritten(ca):
    before = (ca / "ca.key").read_bytes()
    with pytest.raises(PkiError, match=r"ca\.pem: exists already"):
        create_authority(ca, "mail")
    assert (ca / "ca.key").read_bytes() == before


def test_renewal_must_be_asked_for(ca, tmp_path):
    out = tmp_path / "n1"
    issue(ca, "mail", "n1", out)
    before = (out / "node.key").read_bytes()
    with pytest.raises(PkiError, match=r"node\.pem: exists already"):
        issue(ca, "mail", "n1", out)
    assert (out / "node.key").read_bytes() == before
    issue(ca, "mail", "n1", out, replace=True)
    assert (out / "node.key").read_bytes() != before


@pytest.mark.parametrize("name", ["", "N1", "n_1", "n1.example", "-n1", "n1-", "x" * 33, "n1\n", "../n1"])
def test_odd_names_are_refused(ca, tmp_path, name):
    with pytest.raises(PkiError, match="node name"):
        issue(ca, "mail", name, tmp_path / "out")
    with pytest.raises(PkiError, match="cluster name"):
        create_authority(tmp_path / "other", name)
    assert not (tmp_path / "out").exists() and not (tmp_path / "other").exists()


def test_authority_of_another_cluster_is_refused(ca, tmp_path):
    with pytest.raises(PkiError, match="authority of cluster 'mail', not of 'post'"):
        issue(ca, "post", "n1", tmp_path / "n1")


@pytest.mark.parametrize("name", ["ca.pem", "ca.key"])
def test_damaged_or_missing_authority_names_the_file(ca, tmp_path, name):
    (ca / name).write_bytes(b"garbage")
    with pytest.raises(PkiError, match=name):
        issue(ca, "mail", "n1", tmp_path / "n1")
    (ca / name).unlink()
    with pytest.raises(PkiError, match=f"{name}: cannot be read: No such file"):
        issue(ca, "mail", "n1", tmp_path / "n1")


def test_key_of_another_authority_is_refused(ca, tmp_path):
    create_authority(tmp_path / "other", "mail")
    (ca / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(PkiError, match=r"ca\.key: is not the key of"):
        issue(ca, "mail", "n1", tmp_path / "n1")


def test_describe_tells_the_expiry(ca, tmp_path):
    path = issue(ca, "mail", "n1", tmp_path / "n1", days=100)
    now = datetime.now(UTC)
    fresh = describe(path, now=now)
    assert (fresh.name, fresh.authority, fresh.days_left) == ("hamail://mail/n1", False, 99)
    assert "valid until" in fresh.sentence
    assert "renew it" in describe(path, now=now + timedelta(days=80)).sentence
    late = describe(path, now=now + timedelta(days=101))
    assert late.days_left < 0 and "EXPIRED" in late.sentence
    assert describe(ca / "ca.pem").authority
    with pytest.raises(PkiError, match="not a PEM"):
        describe(b"no certificate")


def run(*arguments):
    command = [sys.executable, "-m", "hamail.pki", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)


def test_command_line(tmp_path):
    ca, out = str(tmp_path / "ca"), str(tmp_path / "n1")
    assert run("init", "--cluster", "mail", "--out", ca).returncode == 0
    done = run("issue", "--authority", ca, "--node", "n1", "--out", out)
    assert done.returncode == 0 and "hamail://mail/n1: valid until" in done.stdout
    again = run("issue", "--authority", ca, "--node", "n1", "--out", out)
    assert again.returncode == 1
    assert again.stderr == f"error: {out}/node.pem: exists already and is not overwritten\n"
    assert "hamail://mail/n1" in run("show", f"{out}/node.pem").stdout
