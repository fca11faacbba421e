"""Everything that the judges look at, gathered before any of them is asked."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from msgspec import Struct

from hamail.doctor.dns_facts import DnsFacts
from hamail.doctor.line import Opinion, unknown
from hamail.model.ids import NodeName
from hamail.model.machine import MachineFacts, ProgramFacts
from hamail.model.report import NodeReport
from hamail.model.spec import ClusterSpec, ResourceSpec
from hamail.model.status import Status
from hamail.model.timings import Timings

ANY_AGENT_OF = {"postfix": ("hamail:postfix", "heartbeat:postfix"), "dovecot": ("hamail:dovecot", "heartbeat:dovecot")}
T = TypeVar("T")


class Served(Struct, frozen=True, kw_only=True):
    """The certificate that a port of a floating address shows. `der` None: none was shown, `why` says why."""

    der: bytes | None = None
    why: str = ""


class Findings(Struct, frozen=True, kw_only=True):
    spec: ClusterSpec
    timings: Timings
    me: NodeName | None  # None: this machine is no node
    at_ms: int  # wall clock, for the age of certificates
    before_start: bool = False
    status: Status | None = None
    reports: dict[NodeName, NodeReport] = {}
    silent: dict[NodeName, str] = {}  # node -> why there is no report
    reach: dict[NodeName, str] = {}  # before the start: node -> "" connected | "refused" | why not
    served: dict[str, Served] = {}  # "SMTP 10.0.0.100:25"
    dns: DnsFacts | None = None  # None: not asked for

    def mail_nodes(self) -> tuple[NodeName, ...]:
        """Nodes that may own a group."""
        return tuple(name for name, node in sorted(self.spec.nodes.items()) if not node.witness)

    def machine(self, node: NodeName) -> MachineFacts | None:
        report = self.reports.get(node)
        return report.machine if report else None

    def why_unknown(self, node: NodeName) -> str:
        """Why there are no facts of the node's machine."""
        report = self.reports.get(node)
        if report is None:
            return self.silent.get(node, "it was not asked")
        return report.machine_problem or "it was not looked at"

    def machines(self) -> dict[NodeName, MachineFacts]:
        return {node: facts for node in self.mail_nodes() if (facts := self.machine(node)) is not None}

    def without_machine(self) -> Iterator[Opinion]:
        for node in self.mail_nodes():
            if self.machine(node) is None:
                yield unknown(node, self.why_unknown(node))

    def each_machine(self, judge: Callable[[NodeName, MachineFacts], Iterator[Opinion]]) -> Iterator[Opinion]:
        """`judge` for every mail node whose facts are here, "unknown" for the others."""
        for node in self.mail_nodes():
            facts = self.machine(node)
            if facts is None:
                yield unknown(node, self.why_unknown(node))
            else:
                yield from judge(node, facts)

    def resources(self, *agents: str) -> tuple[tuple[str, ResourceSpec], ...]:
        """(group, resource) of these agents."""
        return tuple(
            (name, r) for name, group in sorted(self.spec.groups.items()) for r in group.resources if r.agent in agents
        )

    def has(self, program: str) -> bool:
        """Is Postfix, or Dovecot, part of a group?"""
        return bool(self.resources(*ANY_AGENT_OF[program]))

    def program(self, node: NodeName, program: str) -> ProgramFacts | None:
        facts = self.machine(node)
        return getattr(facts, program) if facts is not None else None

    def vips(self) -> tuple[str, ...]:
        """Floating addresses, without prefix."""
        given = [r.parameters.get("address", "") for _, r in self.resources("hamail:vip")]
        given += [r.parameters.get("ip", "") for _, r in self.resources("heartbeat:IPaddr2")]
        words = " ".join(given).split()
        return tuple(dict.fromkeys(word.partition("/")[0] for word in words))

    def directories(self) -> tuple[str, ...]:
        """Where the groups mount their storage."""
        found = self.resources("hamail:filesystem", "heartbeat:Filesystem")
        return tuple(r.parameters.get("directory", "").rstrip("/") for _, r in found if r.parameters.get("directory"))

    def moves_along(self, path: str) -> bool:
        """Does the path lie on storage that a group mounts?"""
        plain = path.rstrip("/")
        return any(plain == d or plain.startswith(d + "/") for d in self.directories())


def differing(values: dict[NodeName, T]) -> bool:
    return len({repr(value) for value in values.values()}) > 1


def told(values: dict[NodeName, T]) -> str:
    """ "n1: a, n2: b"."""
    return ", ".join(f"{node}: {value}" for node, value in sorted(values.items()))
