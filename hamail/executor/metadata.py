"""What an agent says about itself: parameters and advised time limits. Lenient about XML, but not about entities."""

import re
from dataclasses import dataclass, field
from xml.parsers import expat

METADATA_BYTES_MAX = 512 << 10
DEFAULT_TIMEOUT_MS = 20_000
_UNITS_MS = {"": 1000, "s": 1000, "sec": 1000, "ms": 1, "msec": 1, "m": 60_000, "min": 60_000, "h": 3_600_000}


class BadMetadata(Exception):
    """The agent's meta-data cannot be used; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    name: str
    parameters: dict[str, bool]  # name -> required
    timeouts_ms: dict[str, int]  # action -> advertised time limit
    deep_intervals_ms: dict[int, int] = field(default_factory=dict)  # level of a deeper monitor -> how often

    def timeout_ms(self, action: str) -> int:
        return self.timeouts_ms.get(action, DEFAULT_TIMEOUT_MS)

    def refuse(self, given: dict[str, str]) -> str:
        """Why these parameters cannot be used; "" when they can."""
        unknown = sorted(given.keys() - self.parameters.keys())
        if unknown:
            known = ", ".join(sorted(self.parameters)) or "none"
            return f"{self.name} has no parameter {', '.join(unknown)}; it has {known}"
        missing = sorted(name for name, required in self.parameters.items() if required and name not in given)
        if missing:
            return f"{self.name} needs the parameter {', '.join(missing)}"
        return ""


@dataclass
class _Found:
    name: str = ""
    parameters: dict[str, bool] = field(default_factory=dict)
    defaults: set[str] = field(default_factory=set)
    timeouts_ms: dict[str, int] = field(default_factory=dict)
    deep_intervals_ms: dict[int, int] = field(default_factory=dict)
    inside: str = ""


def parse(text: str) -> Metadata:
    """Read OCF or fence agent meta-data. Raises BadMetadata."""
    if len(text) > METADATA_BYTES_MAX:
        raise BadMetadata(f"meta-data of more than {METADATA_BYTES_MAX} bytes")
    found = _Found()
    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.EntityDeclHandler = _refuse_entity
    parser.StartElementHandler = lambda tag, attributes: _element(found, tag, attributes)
    try:
        parser.Parse(text.strip(), True)
    except expat.ExpatError as error:
        raise BadMetadata(f"meta-data is not XML: {error}") from error
    if not found.name:
        raise BadMetadata("meta-data has no <resource-agent name=...>")
    # a required parameter with a default has a value without being given
    parameters = {name: required and name not in found.defaults for name, required in found.parameters.items()}
    return Metadata(
        name=found.name,
        parameters=parameters,
        timeouts_ms=found.timeouts_ms,
        deep_intervals_ms=found.deep_intervals_ms,
    )


def parse_duration_ms(text: str) -> int | None:
    """ "20", "20s", "1500ms", "1min" -> milliseconds (no unit: seconds); None when it is none of these."""
    match = re.fullmatch(r"\s*(\d{1,9})(?:\.\d+)?\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in _UNITS_MS:
        return None
    return int(match[1]) * _UNITS_MS[match[2]]


def _refuse_entity(*_declaration: object) -> None:
    raise BadMetadata("meta-data declares XML entities, which are not expanded here")


def _element(found: _Found, tag: str, attributes: dict[str, str]) -> None:
    if tag == "resource-agent":
        found.name = attributes.get("name", "")
    elif tag == "parameter" and attributes.get("name"):
        found.inside = attributes["name"]
        found.parameters[found.inside] = attributes.get("required", "0").lower() in ("1", "true", "yes")
    elif tag == "content" and found.inside and "default" in attributes:
        found.defaults.add(found.inside)
    elif tag == "action" and attributes.get("name"):
        depth, interval_ms = attributes.get("depth", ""), parse_duration_ms(attributes.get("interval", ""))
        level = int(depth) if re.fullmatch(r"[0-9]{1,9}", depth) else 0
        if attributes["name"] == "monitor" and level and interval_ms:
            found.deep_intervals_ms[level] = interval_ms
        timeout_ms = parse_duration_ms(attributes.get("timeout", ""))
        if timeout_ms:
            name = attributes["name"]  # several monitors of different depth: the longest limit suits them all
            found.timeouts_ms[name] = max(timeout_ms, found.timeouts_ms.get(name, 0))
        else:
            found.timeouts_ms.setdefault(attributes["name"], DEFAULT_TIMEOUT_MS)
