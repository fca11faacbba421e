"""What the name servers said."""

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct


class Answer(Struct, frozen=True, kw_only=True):
    """`records` in text form, TXT joined. `alias`: the name is a CNAME for it. `why`: no answer could be had."""

    records: tuple[str, ...] = ()
    ttl_s: int = 0
    alias: str = ""
    authentic: bool = False  # the resolver vouches for DNSSEC (AD)
    why: str = ""


NOT_ASKED = Answer(why="not asked")
Lookup: TypeAlias = Callable[[str, str], Answer]
"""(name, type) -> answer; names without the final dot. An empty answer without `why`: surely no such record."""


class DkimSelector(Struct, frozen=True, kw_only=True):
    domain: str
    selector: str
    public: str = ""  # of the key that signs, as DNS has it; "" when only the selector is known
    source: str = ""  # who named it: "given", or the node
    problem: str = ""


class DnsFacts(Struct, frozen=True, kw_only=True):
    hostname: str  # of the mail service; "" when nobody knows it
    domains: tuple[str, ...] = ()  # that receive mail here
    answers: dict[str, Answer] = {}  # "name TYPE"
    selectors: tuple[DkimSelector, ...] = ()
    policies: dict[str, str] = {}  # domain -> text of its MTA-STS policy
    policy_problems: dict[str, str] = {}  # domain -> why its policy could not be had
    down: str = ""  # no name server answers at all

    def get(self, name: str, kind: str) -> Answer:
        return self.answers.get(f"{name.rstrip('.').lower()} {kind}", NOT_ASKED)
