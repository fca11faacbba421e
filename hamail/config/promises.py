"""`[objectives]` and `[contacts]`: what was promised, and whom to call. Nothing in the cluster acts on them."""

import re
from decimal import Decimal, InvalidOperation

from hamail.config.section import Section
from hamail.model.spec import Objectives

CONTACTS_MAX = 20
CONTACT_CHARS_MAX = 200
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%")


def objectives(root: Section) -> Objectives:
    section = root.table("objectives", required=False)
    found = Objectives(
        rto_ms=section.optional_duration_ms("rto", "100ms", "1h"),
        rpo=_rpo(section),
        availability=_availability(section),
    )
    section.finish()
    return found


def _rpo(section: Section) -> int:
    """A number of mails, written as a text like the other two."""
    text = section.text("rpo", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        section.problem("rpo", f'is {text!r}; write how many acknowledged mails may be lost, as in "0"')
        return 0
    return int(text)


def _availability(section: Section) -> str:
    text = section.optional_text("availability") or ""
    if not text:
        return ""
    match = _PERCENT.fullmatch(text)
    try:
        share = Decimal(match[1]) if match else None
    except InvalidOperation:
        share = None
    if share is None or not 0 < share < 100:
        section.problem("availability", f'is {text!r}; write a share below 100 %, as in "99.999%"')
        return ""
    return str(share)


def contacts(root: Section) -> dict[str, str]:
    """Who -> how to reach them: free words of the operator's own."""
    found = root.texts("contacts")
    if len(found) > CONTACTS_MAX:
        root.problem("contacts", f"has {len(found)} entries; at most {CONTACTS_MAX}")
        return {}
    for name, words in found.items():
        if not words.strip() or len(words) > CONTACT_CHARS_MAX or len(name) > 80:
            root.problem("contacts", f"{name[:80]!r}: is empty, or over {CONTACT_CHARS_MAX} characters")
    return found
