"""Declaration and strict parsing of an agent's parameters (environment variables OCF_RESKEY_<name>)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hamail.ocf.codes import Code, Failure

PREFIX = "OCF_RESKEY_"
TRUE_WORDS = frozenset({"1", "true", "yes", "on", "y", "t"})
DIGITS_MAX = 18  # Python refuses to read a number of thousands of digits, and no parameter needs one
FALSE_WORDS = frozenset({"0", "false", "no", "off", "n", "f"})

Value = str | int | bool


class Kind(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """`check` gets the parsed value and returns "" or what is wrong with it."""

    name: str
    short: str
    long: str = ""
    kind: Kind = Kind.STRING
    default: str | None = None
    required: bool = False
    unique: bool = False
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    check: Callable[[str], str] | None = None


def parse(parameters: tuple[Parameter, ...], environ: Mapping[str, str]) -> dict[str, Value]:
    """Values by name, typed. Raises Failure(CONFIGURED) naming the parameter and what is wrong."""
    return {p.name: _parse_one(p, environ.get(PREFIX + p.name)) for p in parameters}


def _parse_one(parameter: Parameter, given: str | None) -> Value:
    if given is None or given == "":
        if parameter.required:
            raise Failure(Code.CONFIGURED, f"parameter {parameter.name!r} ({parameter.short}) is missing: set it")
        text = parameter.default or ""
    else:
        text = given
    if any(c in text for c in "\0\n\r"):
        raise _bad(parameter, text, "must be one line of text")
    if parameter.kind is Kind.BOOLEAN:
        return _boolean(parameter, text)
    if parameter.kind is Kind.INTEGER:
        return _integer(parameter, text)
    if parameter.choices and text not in parameter.choices:
        raise _bad(parameter, text, f"must be one of: {', '.join(parameter.choices)}")
    if parameter.check is not None and text:
        wrong = parameter.check(text)
        if wrong:
            raise _bad(parameter, text, wrong)
    return text


def _boolean(parameter: Parameter, text: str) -> bool:
    word = text.lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS or word == "":
        return False
    raise _bad(parameter, text, "must be yes or no")


def _integer(parameter: Parameter, text: str) -> int:
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > DIGITS_MAX:
        raise _bad(parameter, text, "must be a whole number")
    number = int(text)
    if parameter.minimum is not None and number < parameter.minimum:
        raise _bad(parameter, text, f"must be at least {parameter.minimum}")
    return number


def _bad(parameter: Parameter, text: str, wrong: str) -> Failure:
    return Failure(Code.CONFIGURED, f"parameter {parameter.name!r} is {text!r}: it {wrong}")


def absolute_path(text: str) -> str:
    """A `check` for paths."""
    if not text.startswith("/"):
        return "must be an absolute path"
    if ".." in text.split("/"):
        return "must not contain '..'"
    return ""
