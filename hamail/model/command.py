"""What every command has."""

from msgspec import Struct

from hamail.model.ids import NodeName, RequestId


class Basis(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the proposer went by; kept with the event for people. Nothing is ever decided by it."""

    by: NodeName
    facts: dict[str, str] = {}
    rejected: dict[str, str] = {}  # alternative -> why not


class Command(Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    at_ms: int
    request: RequestId = ""
    actor: str = "hamail"
    reason: str = ""
    basis: Basis | None = None
