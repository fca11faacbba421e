"""What starts by itself, and who else thinks that this is his business."""

from hamail.doctor.findings import Findings
from hamail.doctor.line import Opinions, fail, ok, unknown, warn
from hamail.model.machine import MachineFacts

STARTS = ("enabled", "enabled-runtime", "linked", "alias")
HAMAIL = ("hamaild.service", "hamail-executor.service")


def services(f: Findings) -> Opinions:
    """A service that the boot starts runs beside the owner's, on an empty disk, before hamail has been asked."""

    def one(node: str, machine: MachineFacts) -> Opinions:
        wrong = [unit for unit, state in machine.units.items() if unit not in HAMAIL and state in STARTS]
        for unit in wrong:
            text = f"{unit} is started at boot, whoever owns the group"
            yield fail(f"{unit} on {node}", text, f"on {node}: systemctl disable {unit}")
        for unit, state in machine.units.items():
            if unit not in HAMAIL and state.startswith("unknown"):
                yield unknown(f"{unit} on {node}", state)
        known = [unit for unit in machine.units if unit not in HAMAIL and unit not in wrong]
        if not wrong and known:
            yield ok(node, f"the boot does not start {', '.join(known)}")
        elif not machine.units:
            yield unknown(node, "systemd says nothing of any unit there")

    yield from f.each_machine(one)


def hamail(f: Findings) -> Opinions:
    def one(node: str, machine: MachineFacts) -> Opinions:
        for unit in HAMAIL:
            state = machine.units.get(unit, "")
            if not state:
                yield unknown(f"{unit} on {node}", "is not a unit of systemd there")
            elif state not in STARTS:
                text = f"is {state}: after a boot {node} takes no part until somebody starts it"
                yield warn(f"{unit} on {node}", text, f"on {node}: systemctl enable {unit}")
            else:
                yield ok(f"{unit} on {node}", "is started at boot")

    yield from f.each_machine(one)


def rivals(f: Findings) -> Opinions:
    """Two managers of one address fight about it, or one starts what the other has stopped."""

    def one(node: str, machine: MachineFacts) -> Opinions:
        for rival in machine.rivals:
            if " is running" in rival:
                remedy = "end it for good before hamail starts (systemctl disable --now), on every node"
            else:
                remedy = "remove the address from that file, on every node: only hamail sets it"
            yield fail(node, rival, remedy)
        if not machine.rivals:
            yield ok(node, "nobody else manages what belongs to a group")

    yield from f.each_machine(one)


def looked_at(f: Findings) -> Opinions:
    """Which nodes have told of themselves at all, and what they could not look at."""

    def one(node: str, machine: MachineFacts) -> Opinions:
        for problem in machine.problems:
            yield unknown(node, problem)
        if not machine.problems:
            yield ok(node, "has been looked at")

    yield from f.each_machine(one)
