"""What an agent found out ahead of its start, while the group waited for the proof that its former owner is out.

hamail then calls validate-all with the evidence "prepare": read-only questions, whose answers a start a moment later
need not ask again. Without it (and under other cluster managers) the start asks by itself.
"""

from hamail.ocf.detached import forget, note, noted
from hamail.ocf.process import boottime_s

FRESH_S = 3.0


def keep(name: str, text: str = "") -> None:
    note(f"{name}.prepared", f"{boottime_s()!r} {text}")  # in full: rounded up it would lie in the future


def take(name: str) -> str | None:
    """The text kept a moment ago, once; None when there is none or it is not fresh."""
    moment, _, text = noted(f"{name}.prepared").partition(" ")
    if not moment:
        return None
    forget(f"{name}.prepared")
    try:
        age_s = boottime_s() - float(moment)
    except ValueError:
        return None
    return text if 0 <= age_s <= FRESH_S else None
