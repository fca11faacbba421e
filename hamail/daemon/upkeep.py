"""What the package does around an upgrade and a removal, so that a running mail service notices neither.

    python -m hamail.daemon.upkeep upgraded      restart what may be restarted, and say what is left to do
    python -m hamail.daemon.upkeep removing      1 when the package must stay, and why; 0: its services may be stopped

hamaild is restarted inside its lease, which no client notices. The executor is the dead-man's switch: its stop is a
stop of all that it holds, so it is restarted only where it holds nothing. Versions that do not understand each other
must not be mixed: then nothing is restarted, and what runs goes on as it is.
"""

import subprocess
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from hamail.config import ConfigError, load_node
from hamail.config.node import NodeConfig
from hamail.daemon import protocols

CONFIG = Path("/etc/hamail/node.toml")
PROGRAM = "/usr/lib/hamail/bin/hamaild"
HAMAILD, EXECUTOR = "hamaild.service", "hamail-executor.service"
UNKNOWN = "what its ledger does not tell"
CHECK_TIMEOUT_S = 60.0
RESTART_TIMEOUT_S = 330.0  # of the units: the executor may take five minutes to stop, hamaild one to start


class Running(Struct, frozen=True, kw_only=True):
    """What runs on this node, and whether it understands what is now installed."""

    node: str
    hamaild: bool
    executor: bool
    held: tuple[str, ...] = ()  # groups
    maintenance: bool = False
    peers_same: bool = True
    executor_same: bool = True


class Plan(Struct, frozen=True, kw_only=True):
    restart: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    refused: bool = False


class _Named(Struct, frozen=True):
    name: str


class _Held(Struct, frozen=True):
    spec: _Named


class _Page(Struct, frozen=True):
    """What is asked of the executor's ledger; whatever version has written it may say more."""

    groups: tuple[_Held, ...] = ()
    maintenance: bool = False


def upgraded(now: Running) -> Plan:
    """After the files were replaced."""
    units = tuple(unit for unit, runs in ((EXECUTOR, now.executor), (HAMAILD, now.hamaild)) if runs)
    by_hand = f"systemctl restart {' '.join(unit.removesuffix('.service') for unit in units)}"
    if now.hamaild and not now.peers_same:
        return Plan(
            words=(
                "This version speaks to the other nodes in another way than the one that runs: nothing was restarted.",
                "The mail service goes on as it is. To change over, without a stop of it until the last step:",
                '  1. hamailctl maintenance on --reason "upgrade of hamail"    (once)',
                "  2. install this version on every node",
                f"  3. {by_hand}    (on every node)",
                "  4. hamailctl maintenance off    (once; groups are stopped and started once)",
            )
        )
    away = (f"  hamailctl standby {now.node}", f"  {by_hand}", f"  hamailctl unstandby {now.node}")
    if now.executor and not now.executor_same and now.held:
        return Plan(
            words=(
                "The new hamaild does not understand the executor that runs: nothing was restarted.",
                f"The executor holds {', '.join(now.held)}, and its restart would stop that. Move it away first:",
                *away,
            )
        )
    if now.executor and now.held:
        away = (away[0], "  systemctl restart hamail-executor", away[2])
        return Plan(
            restart=tuple(unit for unit in units if unit != EXECUTOR),
            words=(
                f"The executor still runs the version before: it holds {', '.join(now.held)}, which its restart would",
                "stop. When it suits you:",
                *away,
            ),
        )
    return Plan(restart=units)


def removing(now: Running) -> Plan:
    """Before the units are stopped and the files go."""
    if not now.executor or not now.held:
        return Plan()
    groups = ", ".join(now.held)
    if not now.maintenance:
        return Plan(
            refused=True,
            words=(
                f"hamail is not removed: this node holds {groups}, and to stop hamail would stop that. Either",
                f"  hamailctl standby {now.node}        moves it to another node, which goes on serving; or",
                "  hamailctl maintenance on    (whole cluster) leaves it running here, with nobody to watch over it.",
                "Then remove the package again.",
            ),
        )
    return Plan(
        words=(
            f"Maintenance is on: {groups} goes on running here, and nothing watches over it any more.",
            "Before maintenance is ended on the other nodes, stop it here, or let them fence this machine: they",
            "take it for lost then, and start the group elsewhere.",
        )
    )


def look(config: NodeConfig) -> Running:
    """At this node."""
    executor = _active(EXECUTOR)
    held, maintenance = written(config.executor_dir / "executor.held")
    return Running(
        node=config.node,
        hamaild=_active(HAMAILD),
        executor=executor,
        held=(held or told()) if executor else (),
        maintenance=maintenance,
        peers_same=protocols.left(config.run_dir) == protocols.PEERS_PROTOCOL,
        executor_same=protocols.left(config.executor_dir) == protocols.EXECUTOR_PROTOCOL,
    )


def written(ledger: Path) -> tuple[tuple[str, ...], bool]:
    """The groups that the executor holds, and whether it keeps its hands off. In doubt it holds something."""
    try:
        page = msgspec.json.decode(ledger.read_bytes(), type=_Page)
    except FileNotFoundError:
        return (), False
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return (UNKNOWN,), False
    return tuple(held.spec.name for held in page.groups), page.maintenance


def told() -> tuple[str, ...]:
    """What the executor says to systemd, should its ledger be wrong: it could not be written, say."""
    words = ["systemctl", "show", "--property=StatusText", "--value", EXECUTOR]
    said = subprocess.run(words, check=False, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S).stdout
    return () if said.startswith("holding nothing") else (UNKNOWN,)


def refused_configuration() -> str:
    """Why the new hamaild would not start here; "" when it would."""
    words = [PROGRAM, "--check", "--config", str(CONFIG)]
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S, user="hamail", group="hamail"
    )
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def restart(units: tuple[str, ...]) -> str:
    """One after the other. Returns what failed; "" when nothing did."""
    for unit in units:
        done = subprocess.run(
            ["systemctl", "restart", unit], check=False, capture_output=True, text=True, timeout=RESTART_TIMEOUT_S
        )
        if done.returncode:
            return f"{unit} did not restart: {done.stderr.strip()}"
    return ""


def carry_out(plan: Plan) -> int:
    """Returns the exit code: 1 keeps the package manager from going on as if all were well."""
    if plan.restart and (why := refused_configuration()):
        say("The new hamaild would not start here, so nothing was restarted and what runs goes on:", why)
        say("Mend that, then: dpkg --configure hamail")
        return 1
    if why := restart(plan.restart):
        say(why, "See what it says: journalctl -u hamaild -u hamail-executor")
        return 1
    say(*plan.words)
    return int(plan.refused)


def say(*lines: str) -> None:
    for line in lines:
        sys.stderr.write(f"hamail: {line}\n")


def main(occasion: str) -> int:
    try:
        now = look(load_node(CONFIG))
    except (ConfigError, OSError) as error:
        if not (_active(HAMAILD) or _active(EXECUTOR)):
            return 0  # it was never set up here
        say(f"services of hamail run, but {CONFIG} cannot be read: {error}", "Nothing was restarted or stopped.")
        return 1
    return carry_out(upgraded(now) if occasion == "upgraded" else removing(now))


def _active(unit: str) -> bool:
    return (
        subprocess.run(["systemctl", "--quiet", "is-active", unit], check=False, timeout=CHECK_TIMEOUT_S).returncode
        == 0
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
