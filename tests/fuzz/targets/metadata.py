"""What resource agents and fence agents say about themselves."""

from hamail.executor.metadata import BadMetadata, parse, parse_duration_ms
from hamail.fencing.agent import FenceError, parse_metadata

LENGTH_MAX = 6000
INSTRUMENT = ("hamail.executor.metadata", "hamail.fencing.agent")
OCF = """<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="store" version="1.0"><version>1.1</version><parameters>
<parameter name="device" required="1"><content type="string" default="x"/></parameter>
<parameter name="mode"><content type="string"/></parameter></parameters>
<actions><action name="start" timeout="5s"/><action name="stop" timeout="1min"/>
<action name="monitor" timeout="2000ms" interval="10" depth="0"/>
<action name="monitor" timeout="20" interval="60s" depth="10"/></actions></resource-agent>
"""
FENCE = """<?xml version="1.0" ?><resource-agent name="fence_x"><parameters>
<parameter name="plug" unique="0"><getopt mixed="-n"/></parameter><parameter name="ip"/></parameters>
<actions><action name="off"/><action name="status"/><action name="monitor"/></actions></resource-agent>
"""


def seeds() -> list[bytes]:
    deep = (
        b'<resource-agent name="x"><action name="monitor" interval="10" depth="' + b"9" * 4400 + b'"/></resource-agent>'
    )
    entity = b'<!DOCTYPE a [<!ENTITY b "c">]><resource-agent name="&b;"/>'
    return [
        deep,
        OCF.encode(),
        FENCE.encode(),
        entity,
        b"<resource-agent",
        b'<?xml version="1.0" encoding="utf-16"?><a/>',
    ]


def one(data: bytes) -> None:
    text = data.decode("utf-8", "backslashreplace")  # as the executor reads an agent's output
    try:
        found = parse(text)
        assert found.name
        found.refuse(dict.fromkeys([*list(found.parameters)[:2], "other"], "x"))
        assert all(0 < found.timeout_ms(action) for action in ("start", "stop", "monitor"))
        assert all(level > 0 and ms > 0 for level, ms in found.deep_intervals_ms.items())
    except BadMetadata as error:
        assert str(error)
    try:
        assert parse_metadata("fence_x", text).host_argument in ("", "port", "plug")
    except FenceError as error:
        assert str(error)
    parse_duration_ms(text[:40])
