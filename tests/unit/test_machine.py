"""What root tells of a machine: what it sees, and what it keeps to itself."""

import os
from pathlib import Path

import dovecot24_program
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hamail.machine import certificates, dkim, files, programs, rivals, run, storage, units
from hamail.machine.look import look
from hamail.model.machine import FACTS_BYTES_MAX, FILES_MAX, ProgramFacts
from hamail.model.spec import GroupSpec, ResourceSpec

CANARY = "canary-5up3r-s3cr3t"


def group(*resources: ResourceSpec) -> tuple[GroupSpec, ...]:
    return (GroupSpec(name="mail", nodes=("n1", "n2"), resources=resources),)


def resource(agent: str, **parameters: str) -> ResourceSpec:
    return ResourceSpec(name=agent.partition(":")[2], agent=agent, parameters=parameters)


VIP = resource("hamail:vip", address="10.0.0.100/24 fd00::100/64", interface="eth0")


@pytest.fixture
def programs_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that is all there is."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_only_a_closed_set_of_settings_leaves_the_machine(programs_in: Path) -> None:
    program(programs_in, "postconf", f"echo 'myhostname = mx.example.org'; echo 'smtp_sasl_password_maps = {CANARY}'")
    program(programs_in, "doveconf", f"echo 'shutdown_clients = yes'; echo 'doveadm_password = {CANARY}'")
    postfix, dovecot = programs.postfix(()), programs.dovecot(())
    assert postfix == ProgramFacts(settings={"myhostname": "mx.example.org"})
    assert dovecot == ProgramFacts(settings={"shutdown_clients": "yes"})


def test_dovecot_2_4_is_understood(programs_in: Path) -> None:
    """It says other names, its certificate in a block, and its lists only when they are asked for by name."""
    dovecot24_program.install(programs_in, "pair")
    settings = programs.dovecot(()).settings  # type: ignore[union-attr]
    assert settings["mail_path"] == "/srv/mail/box/%{user | domain}/%{user | username}"
    assert settings["listen"] == "* ::" and settings["base_dir"] == "/run/dovecot"
    assert settings["ssl_server_cert_file"] == "/etc/ssl/mail.pem"
    assert settings["dovecot_version"] == "2.4.1-4"
    assert certificates.configured(None, ProgramFacts(settings=settings))["IMAP"].path == "/etc/ssl/mail.pem"


def test_programs_that_are_missing_fail_or_hang(programs_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert programs.postfix(()) is None
    program(programs_in, "postconf", "echo 'postconf: fatal: no such file' >&2; exit 1")
    assert "no such file" in programs.postfix(()).problem  # type: ignore[union-attr]
    monkeypatch.setattr(run, "TIMEOUT_S", 0.1)
    program(programs_in, "doveconf", "exec /bin/sleep 5")
    assert "did not end" in programs.dovecot(()).problem  # type: ignore[union-attr]


def test_nothing_at_all_is_installed(programs_in: Path) -> None:
    found = look(group(resource("hamail:filesystem", device="UUID=x", directory="/nowhere"), VIP))
    assert found.postfix is None and found.dovecot is None
    assert found.storage["mail/filesystem"].problem and found.storage["mail/filesystem"].bare == "missing"
    assert any("units: systemctl is not installed" in p for p in found.problems)
    assert len(msgspec.msgpack.encode(found)) < FACTS_BYTES_MAX


def test_a_private_file_shows_that_it_differs_and_no_more(tmp_path: Path) -> None:
    open_file, private = tmp_path / "main.cf", tmp_path / "sql.cf"
    open_file.write_text("x = y\n")
    private.write_text(f"password = {CANARY}\n")
    open_file.chmod(0o644)
    private.chmod(0o640)
    assert len(files.digest(open_file)) == 16
    before = files.digest(private)
    assert len(before) == 4
    private.write_text("password = another\n")
    assert files.digest(private) != before


def test_digests_are_limited_and_compiled_tables_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "postfix"
    (folder / "deep").mkdir(parents=True)
    for number in range(FILES_MAX + 5):
        (folder / f"map{number:03}").write_text("x")
    (folder / "deep" / "zz").write_text("x")
    (folder / "aliases.db").write_text("differs everywhere")
    dovecot = resource("hamail:dovecot", config_file=str(tmp_path / "none" / "x"))
    found, left_out = files.digests(group(resource("hamail:postfix", config_dir=str(folder)), dovecot))
    assert len(found) == FILES_MAX and left_out == 6
    assert not any(name.endswith(".db") for name in found)


def test_of_a_file_with_a_key_in_it_only_the_certificate_is_told(tmp_path: Path) -> None:
    file = tmp_path / "chain.pem"
    key = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"
    file.write_text(f"{key}-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n")
    settings = {"smtpd_tls_chain_files": f"{tmp_path}/missing, {file}", "smtpd_tls_cert_file": "/x"}
    found = certificates.configured(ProgramFacts(settings=settings), ProgramFacts(settings={"ssl": "no"}))
    assert found["SMTP"].der == b"hello" and "IMAP" not in found
    file.write_text(key)
    found = certificates.configured(None, ProgramFacts(settings={"ssl_cert": f"<{file}"}))
    assert found["IMAP"].problem == "has no certificate in it" and CANARY not in str(found)


def test_mount_points(tmp_path: Path) -> None:
    assert storage.bare(tmp_path / "none") == "missing"
    tmp_path.chmod(0o755)
    assert storage.bare(tmp_path) == "open"
    tmp_path.chmod(0o555)
    assert storage.bare(tmp_path) == "unwritable"
    (tmp_path / "queue").mkdir()
    assert storage.bare(tmp_path) == "filled"


def test_a_device_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.touch()
    assert "not a block device" in storage.one(str(file), "/srv").problem
    assert not storage.one(str(file), "/srv").present


def test_fstab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, link = tmp_path / "sdb1", tmp_path / "by-uuid-1"
    disk.touch()
    link.symlink_to(disk)
    fstab = tmp_path / "fstab"
    fstab.write_text(
        f"# {disk} /a\n{disk} /a ext4 defaults 0 0\n/dev/sdz /srv/mail/ ext4 noauto\n/dev/sdy /home ext4\n"
    )
    monkeypatch.setattr(storage, "FSTAB", fstab)
    found = storage.in_fstab(group(resource("hamail:filesystem", device=str(link), directory="/srv/mail")))
    assert len(found) == 2 and "/home" not in str(found)


def test_who_else_names_the_address(tmp_path: Path) -> None:
    folder = tmp_path / "etc/network"
    folder.mkdir(parents=True)
    (folder / "interfaces").write_text(
        "iface eth0 inet static\n  # up ip addr add 10.0.0.100/24\n  address 10.0.0.1001\n"
    )
    assert rivals.naming(rivals.addresses(group(VIP)), tmp_path) == ()
    (folder / "interfaces").write_text("up ip addr add 10.0.0.100/24 dev eth0\n")
    (tmp_path / "etc/keepalived").mkdir()
    (tmp_path / "etc/keepalived/keepalived.conf").write_text("virtual_ipaddress {\n fd00::100/64\n}\n")
    found = rivals.naming(rivals.addresses(group(VIP)), tmp_path)
    assert set(found) == {"/etc/network/interfaces names 10.0.0.100", "/etc/keepalived/keepalived.conf names fd00::100"}


def test_units_of_the_groups(programs_in: Path) -> None:
    states = "postfix.service) echo enabled;; own.service) echo disabled; exit 1;; *) echo not-found; exit 4;;"
    program(programs_in, "systemctl", f'case "$2" in {states} esac')
    resources = (resource("hamail:postfix"), resource("hamail:systemd", unit="own"), VIP)
    assert units.at_boot(group(*resources)) == {"postfix.service": "enabled", "own.service": "disabled"}


def test_of_a_dkim_key_only_the_public_half_is_told(tmp_path: Path) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file = tmp_path / "s1.private"
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    table = tmp_path / "key.table"
    table.write_text(f"# keys\ns1._domainkey.example.org example.org:s1:{file}\nx example.net:s2:{tmp_path}/none\n")
    configuration = tmp_path / "opendkim.conf"
    configuration.write_text(f"KeyTable refile:{table}\n")
    good, bad = dkim.keys(configuration)
    assert (good.domain, good.selector) == ("example.org", "s1") and len(good.public) > 300
    assert "cannot be read" in bad.problem
    configuration.write_text(f"Domain example.org\nSelector s3\nKeyFile {file}\n")
    assert dkim.keys(configuration)[0].public == good.public
    assert dkim.keys(tmp_path / "nothing") == ()


def test_names_that_are_no_users() -> None:
    from hamail.machine.look import accounts, group_ids

    assert set(accounts(("root", "no-such-user", ""))) == {"root"}
    assert group_ids(("root", "no-such-group")) == {"root": os.stat("/root").st_gid}
