"""The DKIM keys that OpenDKIM on this machine signs with. Of each only the public half is told."""

import re
from base64 import b64encode
from pathlib import Path

from hamail.machine.run import text
from hamail.model.machine import DKIM_KEYS_MAX, DkimKey

CONFIGURATION = Path("/etc/opendkim.conf")
KEY_BYTES_MAX = 64 << 10


def keys(configuration: Path = CONFIGURATION) -> tuple[DkimKey, ...]:
    """From KeyTable, or from Domain, Selector and KeyFile; nothing where there is no OpenDKIM."""
    settings: dict[str, str] = {}
    for line in text(configuration).splitlines():
        words = line.split("#")[0].split(None, 1)
        if len(words) == 2:
            settings[words[0].lower()] = words[1].strip()
    found = []
    table = settings.get("keytable", "")
    if table:
        path = Path(table.removeprefix("refile:").removeprefix("file:"))
        entries = [line.split("#")[0].split(None, 1) for line in text(path).splitlines()]
        for entry in entries:
            parts = entry[1].split(":") if len(entry) == 2 else []
            if len(parts) == 3:
                found.append(key(parts[0].strip(), parts[1].strip(), Path(parts[2].strip())))
    elif {"domain", "selector", "keyfile"} <= settings.keys():
        for domain in re.split(r"[,\s]+", settings["domain"]):
            found.append(key(domain, settings["selector"], Path(settings["keyfile"])))
    return tuple(found[:DKIM_KEYS_MAX])


def key(domain: str, selector: str, file: Path) -> DkimKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        with file.open("rb") as stream:
            private = load_pem_private_key(stream.read(KEY_BYTES_MAX), None)
    except OSError as error:
        return DkimKey(domain=domain, selector=selector, problem=f"{file} cannot be read: {error.strerror}")
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return DkimKey(domain=domain, selector=selector, problem=f"{file} is not a private key without password")
    if isinstance(private, Ed25519PrivateKey):
        der = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    else:
        der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return DkimKey(domain=domain, selector=selector, public=b64encode(der).decode())
