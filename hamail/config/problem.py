"""What is wrong with a configuration: always a place and a reason, and always everything at once."""

from msgspec import Struct

from hamail.config.lines import Lines

Path = tuple[str, ...]  # of TOML keys, outermost first


class Problem(Struct, frozen=True):
    """`place` is file, line where it can be told, and the dotted key, e.g. `cluster.toml:12: nodes.n1.address`."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class ConfigError(Exception):
    """The configuration is refused as a whole; nothing has changed."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = problems


class Problems:
    """Collects problems while a file is read, in the order of its lines."""

    def __init__(self, file: str, lines: Lines) -> None:
        self._file = file
        self._lines = lines
        self._found: list[tuple[int, Problem]] = []

    def add(self, path: Path, reason: str) -> None:
        line = self._lines.of(path)
        where = f"{self._file}:{line}" if line else self._file
        place = f"{where}: {dotted(path)}" if path else where
        problem = Problem(place, reason)
        if all(problem != known for _, known in self._found):
            self._found.append((line, problem))

    def __bool__(self) -> bool:
        return bool(self._found)

    def found(self) -> tuple[Problem, ...]:
        return tuple(problem for _, problem in sorted(self._found, key=lambda pair: pair[0]))


def dotted(path: Path) -> str:
    return ".".join(path)
