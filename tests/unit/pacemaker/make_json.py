"""The same pair in the JSON of pcs; a builder, since the real thing is a thousand lines of nulls."""

from typing import Any


def nvset(name: str, values: dict[str, str]) -> list[dict[str, Any]]:
    pairs = [{"id": f"{name}-{key}", "name": key, "value": value} for key, value in values.items()]
    return [{"id": name, "options": {}, "rule": None, "nvpairs": pairs}] if pairs else []


def primitive(name: str, agent: str, operations: tuple[dict[str, str], ...] = (), meta: dict[str, str] | None = None, **parameters: str) -> dict[str, Any]:  # fmt: skip # noqa: E501
    words = agent.split(":")
    standard, provider, kind = (words[0], None, words[1]) if len(words) == 2 else words
    blank = {"description": None, "start_delay": None, "interval_origin": None, "enabled": None, "role": None}
    return {
        "id": name,
        "agent_name": {"standard": standard, "provider": provider, "type": kind},
        "description": None,
        "operations": [
            {"id": f"{name}-{op['name']}", "on_fail": None, "meta_attributes": [], "instance_attributes": []}
            | blank
            | op
            for op in operations
        ],
        "meta_attributes": nvset(f"{name}-meta", meta or {}),
        "instance_attributes": nvset(f"{name}-ia", parameters),
        "utilization": [],
    }


def order(name: str, first: str, then: str, **attributes: str) -> dict[str, Any]:
    blank = {"symmetrical": None, "require_all": None, "score": None, "kind": None}
    return {
        "first_resource_id": first,
        "then_resource_id": then,
        "first_action": None,
        "then_action": None,
        "attributes": {"constraint_id": name} | blank | attributes,
    }


def location(name: str, resource: str, node: str, score: str) -> dict[str, Any]:
    attributes = {"constraint_id": name, "score": score, "node": node, "rules": [], "lifetime": []}
    return {"resource_id": resource, "resource_pattern": None, "role": None, "attributes": attributes}


def colocation(name: str, one: str, other: str, score: str, role: str | None = None) -> dict[str, Any]:
    attributes = {"constraint_id": name, "score": score, "influence": None, "lifetime": []}
    return {
        "resource_id": one,
        "with_resource_id": other,
        "node_attribute": None,
        "resource_role": None,
        "with_resource_role": role,
        "attributes": attributes,
    }


def pair() -> dict[str, Any]:
    """`pcs config --output-format=json` of a DRBD pair."""
    monitor = {"name": "monitor", "interval": "20s", "timeout": "40s"}
    resources = {
        "primitives": [
            primitive("drbd", "ocf:linbit:drbd", drbd_resource="r0"),
            primitive(
                "fs", "ocf:heartbeat:Filesystem", (monitor,), device="/dev/drbd0", directory="/srv/mail", fstype="xfs"
            ),
            primitive("ip", "ocf:heartbeat:IPaddr2", ip="10.20.0.25", cidr_netmask="24"),
            primitive("postfix", "ocf:heartbeat:postfix", config_dir="/etc/postfix"),
            primitive("dovecot", "ocf:heartbeat:dovecot"),
            primitive("db", "ocf:heartbeat:pgsql", (monitor,), pgport="5432", monitor_password="secret-of-db"),
        ],
        "clones": [{"id": "drbd-clone", "member_id": "drbd", "meta_attributes": nvset("c", {"promotable": "true"})}],
        "groups": [
            {"id": "mail", "description": None, "member_ids": ["fs", "ip", "postfix", "dovecot"], "meta_attributes": []}
        ],
        "bundles": [],
    }
    fencing = {
        "primitives": [
            primitive("f-n1", "stonith:fence_ipmilan", ip="10.20.9.1", password="secret-1", pcmk_host_list="n1"),
            primitive("f-n2", "stonith:fence_ipmilan", ip="10.20.9.2", password="secret-2", pcmk_host_list="n2"),
        ]
    }
    constraints = {
        "location": [location("l1", "mail", "n1", "50"), location("l2", "mail", "n2", "10")],
        "order": [order("o1", "drbd-clone", "mail"), order("o2", "mail", "db", kind="Optional")],
        "colocation": [
            colocation("c1", "mail", "drbd-clone", "INFINITY", "Promoted"),
            colocation("c2", "db", "mail", "INFINITY"),
        ],
        "order_set": [{"sets": [], "attributes": {"constraint_id": "os1"}}],
        "ticket": [],
    }
    return {
        "nodes": [{"uname": "n1"}, {"uname": "n2"}],
        "resources": resources,
        "stonith": fencing,
        "constraints": constraints,
        "properties": {"nvsets": nvset("p", {"stonith-enabled": "true"})},
    }
