"""A CIB in XML (`pcs cluster cib`, `cibadmin --query`, cib.xml), without entities, DTDs or anything fetched."""

from itertools import pairwise
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

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

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

CLONES = {"clone": "clone", "master": "promotable clone", "bundle": "bundle"}


def read_xml(text: str) -> Cib:
    """Raises Unreadable."""
    try:
        root = fromstring(text, forbid_dtd=True)
    except DefusedXmlException as error:
        raise Unreadable("declares a DTD or entities; a CIB has none, so nothing of it is read") from error
    except (ParseError, ValueError) as error:
        raise Unreadable(f"is not XML: {error}") from error
    top = root if root.tag == "cib" else root.find(".//cib")
    configuration = root if root.tag == "configuration" else (top if top is not None else root).find("configuration")
    if configuration is None:
        raise Unreadable("has no <configuration>: is it a CIB? (pcs cluster cib)")
    cib = Cib()
    _cluster(cib, configuration)
    for element in configuration.iterfind("resources/*"):
        _resource(cib, element)
    for element in configuration.iterfind("constraints/*"):
        _constraint(cib, element)
    for element in configuration.iterfind("fencing-topology/fencing-level"):
        _level(cib, element)
    for tag, why in (("alerts", "alert agents"), ("tags", "tags"), ("acls", "rights of users")):
        for element in configuration.iterfind(f"{tag}/*"):
            cib.others.append((element.get("id", tag), f"{why} are not part of what is imported"))
    return cib


def _pairs(element: "Element", tag: str) -> dict[str, str]:
    """Names and values of every set; the first one with a name counts, as in Pacemaker."""
    found: dict[str, str] = {}
    for pair in element.iterfind(f"{tag}/nvpair"):
        found.setdefault(pair.get("name", ""), pair.get("value", ""))
    found.pop("", None)
    return found


def _cluster(cib: Cib, configuration: "Element") -> None:
    for pair in configuration.iterfind("crm_config/cluster_property_set/nvpair"):
        cib.properties.setdefault(pair.get("name", ""), pair.get("value", ""))
    for node in configuration.iterfind("nodes/node"):
        name = node.get("uname", "")
        if name:
            cib.nodes.append(name)
            cib.node_attributes[name] = _pairs(node, "instance_attributes")


def _resource(cib: Cib, element: "Element") -> str:
    """Returns the id of what was read."""
    name = element.get("id", "")
    if element.tag == "primitive":
        cib.primitives[name] = _primitive(element)
    elif element.tag == "group":
        members = tuple(_resource(cib, member) for member in element.iterfind("primitive"))
        cib.groups.append(Group(name, members, _pairs(element, "meta_attributes")))
    elif element.tag in CLONES:
        inside = [_resource(cib, member) for member in element if member.tag in ("primitive", "group")]
        kind = CLONES[element.tag]
        if _pairs(element, "meta_attributes").get("promotable", "").lower() == "true":
            kind = CLONES["master"]
        cib.clones.append(Clone(name, inside[0] if inside else "", kind))
    else:
        cib.others.append((name or element.tag, f"<{element.tag}> is nothing that hamail knows"))
    return name


def _primitive(element: "Element") -> Primitive:
    name = element.get("id", "")
    if element.get("template"):
        raise Unreadable(f"primitive {name} is made from a template; expand it first: pcs resource config")
    operations = tuple(
        Operation(op.get("name", ""), op.get("interval", ""), op.get("timeout", ""), op.get("on-fail", ""))
        for op in element.iterfind("operations/op")
    )
    return Primitive(
        id=name,
        standard=element.get("class", ""),
        provider=element.get("provider", ""),
        type=element.get("type", ""),
        parameters=_pairs(element, "instance_attributes"),
        meta=_pairs(element, "meta_attributes"),
        operations=operations,
    )


def _constraint(cib: Cib, element: "Element") -> None:
    name, get = element.get("id", ""), element.get
    if element.find("resource_set") is not None:
        _set(cib, element, name)
    elif element.tag == "rsc_location":
        rule = element.find("rule") is not None
        cib.locations.append(Location(name, get("rsc", ""), get("node", ""), score(get("score")), rule))
    elif element.tag == "rsc_order":
        mandatory = get("kind", "Mandatory") == "Mandatory" and score(get("score", "INFINITY")) > 0
        action = get("first-action", "start")
        cib.orders.append(Order(name, get("first", ""), get("then", ""), mandatory, action))
    elif element.tag == "rsc_colocation":
        role = get("with-rsc-role", "") or get("rsc-role", "")
        cib.colocations.append(Colocation(name, get("rsc", ""), get("with-rsc", ""), score(get("score")), role))
    else:
        cib.others.append((name, f"a constraint of the kind <{element.tag}>"))


def _set(cib: Cib, element: "Element", name: str) -> None:
    """Sets that are plain sequences can be read; others are listed."""
    sets = element.findall("resource_set")
    members = [ref.get("id", "") for one in sets for ref in one.iterfind("resource_ref")]
    plain = all(one.get("sequential", "true") == "true" and one.get("require-all", "true") == "true" for one in sets)
    if element.tag == "rsc_order" and plain:
        for first, then in pairwise(members):
            cib.orders.append(Order(name, first, then))
    elif element.tag == "rsc_colocation" and plain:
        for other, one in pairwise(members):
            cib.colocations.append(Colocation(name, one, other, score(element.get("score", "INFINITY"))))
    else:
        cib.others.append((name, "a constraint with resource sets that are no plain sequence"))


def _level(cib: Cib, element: "Element") -> None:
    target, devices = element.get("target", ""), element.get("devices", "")
    index = element.get("index", "1")
    if not target or not index.isdigit():
        cib.others.append((element.get("id", ""), "a fencing level whose target is a pattern or an attribute"))
        return
    cib.levels.append(Level(target, int(index), tuple(d.strip() for d in devices.split(",") if d.strip())))
