"""Read configuration files: everything that is wrong at once, or a value that is right."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hamail.config.cluster import read_cluster
from hamail.config.lines import Lines
from hamail.config.node import NodeConfig, read_node
from hamail.config.problem import ConfigError, Problem, Problems
from hamail.config.rules import check
from hamail.config.section import Section
from hamail.model.spec import ClusterSpec

FILE_BYTES_MAX = 256 << 10
LINE_DOTS_MAX = 128  # the TOML reader takes memory by the square of a key's parts: 32 kB of them took a gigabyte
_AT_LINE = re.compile(r"\s*\(at line (\d+), column (\d+)\)$")
T = TypeVar("T")


def load_cluster(path: Path) -> tuple[ClusterSpec, str]:
    """The cluster's configuration and its text as read. Raises ConfigError."""
    text = _read(path)
    return parse_cluster(text, str(path)), text


def parse_cluster(text: str, place: str) -> ClusterSpec:
    """`place` is the file's name, for messages. Raises ConfigError with every problem."""
    if len(text.encode("utf-8", "surrogatepass")) > FILE_BYTES_MAX:
        raise ConfigError((Problem(place, f"is over {FILE_BYTES_MAX} bytes"),))
    for number, line in enumerate(text.split("\n"), start=1):
        if line.replace("..", "").count(".") > LINE_DOTS_MAX:  # no two of a key stand together
            raise ConfigError((Problem(f"{place}:{number}", f"has more than {LINE_DOTS_MAX} dots in one line"),))
    return _parse(text, place, _checked_cluster)


def load_node(path: Path) -> NodeConfig:
    """This node's own settings. Raises ConfigError."""
    return _parse(_read(path), str(path), lambda root, _: read_node(root))


def _checked_cluster(root: Section, problems: Problems) -> ClusterSpec:
    spec = read_cluster(root)
    check(spec, problems)
    return spec


def _parse(text: str, place: str, read: Callable[[Section, Problems], T]) -> T:
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise ConfigError((_not_toml(place, str(error)),)) from error
    problems = Problems(place, Lines(text))
    result = read(Section(data, (), problems), problems)
    if problems:
        raise ConfigError(problems.found())
    return result


def _not_toml(place: str, message: str) -> Problem:
    match = _AT_LINE.search(message)
    where = f"{place}:{match[1]}" if match else place
    reason = _AT_LINE.sub("", message)
    return Problem(where, f"is not TOML: {reason}" + (f", at column {match[2]}" if match else ""))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError((Problem(str(path), f"cannot be read: {error.strerror}"),)) from error
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError((Problem(str(path), f"is over {FILE_BYTES_MAX} bytes"),))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError((Problem(f"{path}:{line}", "is not UTF-8 text"),)) from error
