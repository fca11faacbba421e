"""The certificates that Postfix and Dovecot are configured with: the first of each file, never a key."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from pathlib import Path

from hamail.machine.run import FILE_BYTES_MAX
from hamail.model.machine import CERTIFICATE_BYTES_MAX, CertificateFacts, ProgramFacts

_BLOCK = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----\s*([A-Za-z0-9+/=\s]+?)\s*-----END")


def configured(postfix: ProgramFacts | None, dovecot: ProgramFacts | None) -> dict[str, CertificateFacts]:
    found = {}
    if postfix is not None:
        chain = postfix.settings.get("smtpd_tls_chain_files", "").replace(",", " ").split()
        paths = chain or [postfix.settings.get("smtpd_tls_cert_file", "")]
        if paths[0] and paths[0] != "none":
            found["SMTP"] = read([Path(p) for p in paths])
    if dovecot is not None and dovecot.settings.get("ssl", "yes") != "no":
        path = dovecot.settings.get("ssl_server_cert_file") or dovecot.settings.get("ssl_cert", "")
        path = path.removeprefix("<").strip()
        if path:
            found["IMAP"] = read([Path(path)])
    return found


def read(paths: list[Path]) -> CertificateFacts:
    """A chain may be spread over files, with the key in the first of them."""
    problem = ""
    for path in paths:
        try:
            with path.open("rb") as file:
                block = _BLOCK.search(file.read(FILE_BYTES_MAX))
        except OSError as error:
            problem = problem or f"{path} cannot be read: {error.strerror}"
            continue
        if block is None:
            continue
        try:
            der = b64decode(b"".join(block[1].split()), validate=True)
        except (Base64Error, ValueError):
            return CertificateFacts(path=str(path), problem="is not a certificate in PEM form")
        if len(der) > CERTIFICATE_BYTES_MAX:
            return CertificateFacts(path=str(path), problem="is larger than any certificate of a server")
        return CertificateFacts(path=str(path), der=der)
    return CertificateFacts(path=str(paths[0]), problem=problem or "has no certificate in it")
