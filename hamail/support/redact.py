"""Takes secrets out of text. Known values are taken out wherever they stand, in the usual encodings too; what looks
like a secret by its name or its form is taken out as well. Local parts of mail addresses become a code: the same
address has the same code in one archive, and in no other."""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable
from urllib.parse import quote

GONE = "(redacted)"
VALUE_CHARS_MIN = 4  # a shorter "secret" would tear holes into every text
_NAME = (
    r"[A-Za-z0-9_.\-]*"
    r"(?:passw(?:or)?d|passphrase|secret|token|api_?key|private_?key|credential|authorization"
    r"|pwd|community|pass(?![A-Za-z]))[A-Za-z0-9_\-]*"
)
# key = "value", key: value, "key": "value", key=value; names of files that hold secrets are no secrets
_PAIR = re.compile(
    rf"(?P<head>[\"']?\b{_NAME}[\"']?\s*[=:]\s*)(?P<value>\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|(?:null|true|false|\d+)(?=,\")|[^\s}}\]]+)",
    re.IGNORECASE,
)
_NOTHING = frozenset({"", "{", "{}", "[]", "true", "false", "null"})
_FILE_VALUE = re.compile(r"^[\"']?/[\w./@-]+[\"']?$")
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_URL = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s:/@]+:)[^\s/@]+(?=@)", re.IGNORECASE)
_BEARER = re.compile(r"\b(?P<head>Bearer|Basic)\s+[A-Za-z0-9+/=._~-]{8,}", re.IGNORECASE)
_AUTH = re.compile(r"\b(?P<head>AUTH\s+(?:PLAIN|LOGIN)\s+)[A-Za-z0-9+/=]+", re.IGNORECASE)
_CRYPT = re.compile(r"\$(?:[0-9a-z]{1,8})\$[./A-Za-z0-9$=,+-]{8,}|\{[A-Z0-9-]{3,20}\}[./A-Za-z0-9$=,+-]{8,}")
_ADDRESS = re.compile(r"(?<![\w.+-])(?P<local>[\w.+=-]{1,64})@(?P<domain>[\w-]+(?:\.[\w-]+)+)")
_OURS = re.compile(r"^(?:postfix|dovecot|postfix@-|getty|systemd|user|hamail)[\w-]*$")  # units, not people


class Redactor:
    """`values`: secrets that are known, as the contents of the files of secrets."""

    def __init__(self, values: Iterable[str] = (), hide_addresses: bool = True) -> None:
        self._salt = secrets.token_bytes(16)
        self._hide_addresses = hide_addresses
        forms: set[str] = set()
        for value in values:
            if len(value) >= VALUE_CHARS_MIN:
                forms |= _forms(value)
        longest_first = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def text(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(GONE, text)
        text = _PEM.sub(GONE, text)
        text = _URL.sub(rf"\g<head>{GONE}", text)
        text = _AUTH.sub(rf"\g<head>{GONE}", text)
        text = _BEARER.sub(rf"\g<head> {GONE}", text)
        text = _CRYPT.sub(GONE, text)
        text = _PAIR.sub(_pair, text)
        return _ADDRESS.sub(self._address, text) if self._hide_addresses else text

    def _address(self, found: re.Match[str]) -> str:
        local, domain = found["local"], found["domain"]
        if domain.endswith((".service", ".socket", ".service.d", ".timer", ".conf")) or _OURS.match(local):
            return found[0]
        code = hashlib.sha256(self._salt + found[0].lower().encode()).hexdigest()[:8]
        return f"u-{code}@{domain}"


def _pair(found: re.Match[str]) -> str:
    value = found["value"]
    if GONE in value or _FILE_VALUE.match(value) or value.strip("\"'") in _NOTHING:
        return found[0]
    if value.startswith(("{", "[")):
        return found[0]  # a table: its entries are looked at by themselves
    mark = value[0] if value[0] in "\"'" else ""
    return f"{found['head']}{mark}{GONE}{mark}"


def _forms(value: str) -> set[str]:
    """As it stands, and as programs write it."""
    raw = value.encode()
    plain = base64.b64encode(raw).decode()
    return {
        value,
        plain,
        plain.rstrip("="),
        base64.urlsafe_b64encode(raw).decode(),
        raw.hex(),
        quote(value, safe=""),
        value.replace("\\", "\\\\").replace('"', '\\"'),
    }
