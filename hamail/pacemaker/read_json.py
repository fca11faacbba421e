"""The JSON of pcs: `pcs config --output-format=json`, or that of resource, stonith, stonith level and constraint.

The parts are found wherever they are in the document, since versions of pcs nest them differently.
"""

import json
from collections.abc import Iterator
from typing import Any

from hamail.pacemaker.cib import (
    Cib,
    Clone,
    Colocation,
    Group,
    Level,
    Location,
    Operation,
    Order,
    Primitive,
    Unreadable,
    score,
)

DEPTH_MAX = 6
SETS = {
    "location_set": "a location constraint with resource sets",
    "colocation_set": "a colocation constraint with resource sets",
    "order_set": "an order constraint with resource sets",
    "ticket": "a ticket of another site",
    "ticket_set": "a ticket of another site",
    "target_regex": "a fencing level whose target is a pattern",
    "target_attribute": "a fencing level whose target is an attribute",
}


def read_json(text: str) -> Cib:
    """Raises Unreadable."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is not JSON: {error}") from error
    cib = Cib()
    found = 0
    for part in _parts(document, 0):
        try:
            found += _part(cib, part)
        except (AttributeError, TypeError, KeyError) as error:
            raise Unreadable(f"is not what pcs writes: {error!r}") from error
    if not found:
        raise Unreadable(
            "has no resources, fence devices or constraints in it: is it from pcs ... --output-format=json?"
        )
    return cib


def _parts(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Every object in the document, down to a depth."""
    if isinstance(value, dict) and depth < DEPTH_MAX:
        yield value
        for inner in value.values():
            if isinstance(inner, dict):
                yield from _parts(inner, depth + 1)


def _list(part: dict[str, Any], key: str) -> list[Any]:
    value = part.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _part(cib: Cib, part: dict[str, Any]) -> int:
    """How many things of interest were in it."""
    before = _size(cib)
    for entry in _list(part, "primitives"):
        cib.primitives[entry["id"]] = _primitive(entry)
    for entry in _list(part, "groups"):
        cib.groups.append(Group(entry["id"], tuple(entry.get("member_ids") or ()), _pairs(entry, "meta_attributes")))
    for entry in _list(part, "clones"):
        promotable = _pairs(entry, "meta_attributes").get("promotable", "").lower() == "true"
        kind = "promotable clone" if promotable else "clone"
        cib.clones.append(Clone(entry["id"], entry.get("member_id") or "", kind))
    for entry in _list(part, "bundles"):
        inner = entry.get("primitive") or entry.get("member_id") or ""
        cib.clones.append(Clone(entry["id"], inner if isinstance(inner, str) else inner.get("id", ""), "bundle"))
    _constraints(cib, part)
    for entry in _list(part, "target_node"):
        cib.levels.append(Level(entry["target"], int(entry["index"]), tuple(entry.get("devices") or ())))
    for key, what in SETS.items():
        for entry in _list(part, key):
            attributes = entry.get("attributes") or {}
            cib.others.append((attributes.get("constraint_id") or entry.get("id") or key, what))
    for entry in _list(part, "nodes"):
        name = entry.get("uname") or entry.get("name")
        if isinstance(name, str) and name not in cib.nodes:
            cib.nodes.append(name)
    for entry in _list(part, "nvsets"):
        for pair in _list(entry, "nvpairs"):
            cib.properties.setdefault(pair.get("name", ""), str(pair.get("value", "")))
    return _size(cib) - before


def _size(cib: Cib) -> int:
    lists = (cib.groups, cib.clones, cib.locations, cib.orders, cib.colocations, cib.levels, cib.others)
    return len(cib.primitives) + sum(len(found) for found in lists)


def _pairs(entry: dict[str, Any], key: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in _list(entry, key):
        for pair in _list(one, "nvpairs"):
            found.setdefault(str(pair["name"]), str(pair["value"]))
    return found


def _primitive(entry: dict[str, Any]) -> Primitive:
    agent = entry["agent_name"]
    operations = tuple(
        Operation(op.get("name") or "", op.get("interval") or "", op.get("timeout") or "", op.get("on_fail") or "")
        for op in _list(entry, "operations")
    )
    return Primitive(
        id=entry["id"],
        standard=agent.get("standard") or "",
        provider=agent.get("provider") or "",
        type=agent.get("type") or "",
        parameters=_pairs(entry, "instance_attributes"),
        meta=_pairs(entry, "meta_attributes"),
        operations=operations,
    )


def _constraints(cib: Cib, part: dict[str, Any]) -> None:
    for entry in _list(part, "location"):
        a = entry["attributes"]
        has_rule = bool(a.get("rules")) or not entry.get("resource_id")
        resource = entry.get("resource_id") or entry.get("resource_pattern") or ""
        cib.locations.append(
            Location(a.get("constraint_id") or "", resource, a.get("node") or "", score(a.get("score")), has_rule)
        )
    for entry in _list(part, "order"):
        a = entry["attributes"]
        mandatory = (a.get("kind") or "Mandatory") == "Mandatory" and score(a.get("score") or "INFINITY") > 0
        first, then = entry.get("first_resource_id") or "", entry.get("then_resource_id") or ""
        action = entry.get("first_action") or "start"
        cib.orders.append(Order(a.get("constraint_id") or "", first, then, mandatory, action))
    for entry in _list(part, "colocation"):
        a = entry["attributes"]
        role = entry.get("with_resource_role") or entry.get("resource_role") or ""
        one, other = entry.get("resource_id") or "", entry.get("with_resource_id") or ""
        cib.colocations.append(Colocation(a.get("constraint_id") or "", one, other, score(a.get("score")), role))
