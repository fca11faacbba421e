"""What our own agents are given in their environment: typed values, or a refusal that names the parameter."""

import io
from contextlib import redirect_stderr, redirect_stdout

from hamail.ocf.agent import Call
from hamail.ocf.codes import Failure
from hamail.ocf.parameters import PREFIX, Kind, Parameter, absolute_path, parse

INSTRUMENT = ("hamail.ocf.parameters", "hamail.ocf.agent")
LENGTH_MAX = 6000
DECLARED = (
    Parameter(name="device", short="device", required=True, check=absolute_path),
    Parameter(name="count", short="count", kind=Kind.INTEGER, default="3", minimum=1),
    Parameter(name="flag", short="flag", kind=Kind.BOOLEAN, default="yes"),
    Parameter(name="mode", short="mode", choices=("a", "b"), default="a"),
    Parameter(name="word", short="word"),
)
NAMES = [f"{PREFIX}{p.name}" for p in DECLARED]
METAS = [f"{PREFIX}CRM_meta_{n}" for n in ("timeout", "interval", "hamail_epoch", "hamail_evidence")] + [
    "OCF_CHECK_LEVEL"
]


def seeds() -> list[bytes]:
    good = ["/dev/sdb", "7", "no", "b", "word", "20000", "0", "17", "fenced", "10"]
    odd = ["../x", "-1", "perhaps", "c", "a\nb", "x", "-5", "9" * 50, "released", "\u0661"]
    return [
        "\x1f".join(words).encode() for words in (good, odd, ["", "9" * 5000], ["/x", "9" * 5000], ["/a", "\u00b2"])
    ]


def one(data: bytes) -> None:
    words = data.decode("utf-8", "surrogateescape").split("\x1f")  # as Python reads the environment
    environ = dict(zip(NAMES + METAS, words, strict=False))
    try:
        values = parse(DECLARED, environ)
    except Failure as failure:
        assert failure.code
        values = {"device": "/x", "count": 1, "flag": True, "mode": "a", "word": ""}
    assert isinstance(values["count"], int) and values["count"] >= 1
    assert isinstance(values["flag"], bool) and values["mode"] in ("a", "b", "")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        call = Call("monitor", environ, values, 20_000)
        assert call.level >= 0
        assert call.epoch is None or call.epoch >= 0
        assert call.remaining_s() > 0
        assert call.probe in (True, False)
        assert not (call.fenced and call.released)
