"""Whether two versions of hamail understand each other: what they say to one another, as one short text."""

import hashlib
from typing import Any

import msgspec

DIGITS = 16


def fingerprint(*types: Any) -> str:
    """Equal for equal sets of messages: names, fields, types, limits and defaults count, descriptions do not."""
    schemas = [_bare(msgspec.json.schema(kind)) for kind in types]
    return hashlib.sha256(msgspec.json.encode(schemas, order="deterministic")).hexdigest()[:DIGITS]


def _bare(schema: Any) -> Any:
    """Without descriptions. A field may have that name as well; what describes it is no text."""
    if isinstance(schema, dict):
        return {k: _bare(v) for k, v in schema.items() if not (k == "description" and isinstance(v, str))}
    return [_bare(part) for part in schema] if isinstance(schema, list) else schema
