"""The lab from the command line: `python -m tests.lab [--lab NAME] COMMAND`."""

import argparse
import os
import sys

from tests.lab import cgroup, features
from tests.lab.lab import Lab, LabError, labs, top_folder
from tests.lab.node import ENVIRONMENT, REBOOT_STATUS, NodeError
from tests.lab.pdu import Mode, Pdu

FAILED = 1
WITHOUT_LAB = ("up", "down", "list", "check", "image", "status")
INTERNAL = ("serve-pdu", "power-lost", "watchdog-expired")
OF_EVERY_HOST = ("isolate", "slow", "unplug")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    top.add_argument(
        "--lab", default=os.environ.get("HAMAIL_LAB", "lab"), help="name of the lab (default: %(default)s)"
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, *arguments: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text)
        for argument in arguments:
            sub.add_argument(argument)
        return sub

    up = command("up", "build and boot everything")
    up.add_argument("--detection", default="1s", help="hamail's one time setting (default: %(default)s)")
    up.add_argument("--mmp", action="store_true", help="ext4 with multi mount protection on the LUN")
    up.add_argument("--watchdog-resets", action="store_true", help="an expired watchdog boots its node again")
    command("down", "remove every trace of the lab")
    command("list", "labs on this machine")
    command("check", "can this machine host a lab?")
    command("image", "build the nodes' images only")
    command("exec", "run a command in a node or on the client", "where").add_argument("words", nargs=argparse.REMAINDER)
    command("cut", "power cut", "node")
    command("on", "power on", "node")
    command("freeze", "stall a whole node", "node").add_argument("--pause-watchdog", action="store_true")
    command("thaw", "end the stall", "node")
    command("isolate", "cut a node off from everyone, without carrier loss", "node")
    command("partition", "both ways between two lists of hosts, as n1 n2,n3", "left", "right")
    command("drop", "one way: frames from one host to another, or `any`", "source", "destination").add_argument(
        "--percent", type=int, default=100
    )
    command("slow", "limit the rate to a host, as 256kbit", "node", "rate")
    command("unplug", "carrier loss at a host", "node")
    command("heal", "take all network faults back")
    command("san-off", "the node's path to the LUN is gone", "node")
    command("san-hang", "the node's I/O on the LUN hangs", "node")
    command("san-resume", "and goes on", "node")
    commands.add_parser("pdu", help="how the PDU behaves").add_argument("mode", choices=[*Mode])
    command("status", "what is on, and whether the cluster is healthy")
    commands.add_parser("serve-pdu")  # this and those below are used by the lab itself
    for name in INTERNAL[1:]:
        sub = commands.add_parser(name)
        sub.add_argument("node")
        sub.add_argument("generation", type=int)
        if name == "power-lost":
            sub.add_argument("exit_status", type=int)
    return top


def main() -> int:
    options = parser().parse_args()
    try:
        lab = Lab(options.lab, say)
        require(lab, options)
        return act(lab, options)
    except PermissionError as error:
        print(f"error: the lab needs root: {error}", file=sys.stderr)
        return FAILED
    except (LabError, NodeError, RuntimeError, cgroup.CgroupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED


def require(lab: Lab, options: argparse.Namespace) -> None:
    """Raises LabError for a lab or a node that does not exist, before anything is tried on it."""
    if options.command in (*WITHOUT_LAB, *INTERNAL):
        return
    lab.require()
    hosts = [*lab.nodes, *(("client", "pdu") if options.command in OF_EVERY_HOST else ())]
    if getattr(options, "node", hosts[0]) not in hosts:
        raise LabError(f"there is no node {options.node}: {', '.join(hosts)}")


def act(lab: Lab, options: argparse.Namespace) -> int:
    match options.command:
        case "up":
            lab.up(options.detection, options.mmp, options.watchdog_resets)
        case "down":
            lab.down()
        case "list":
            print("\n".join(labs()))
        case "check":
            lacks = features.missing(top_folder())
            print(features.sentence(lacks) if lacks else "this machine can host the lab")
            return FAILED if lacks else 0
        case "image":
            lab.build()
        case "exec":
            run(lab, options.where, options.words)
        case "drop":
            lab.drop(options.source, options.destination, options.percent)
        case "partition":
            lab.partition(options.left.split(","), options.right.split(","))
        case "slow":
            lab.switch.slow(options.node, options.rate)
        case "unplug":
            lab.switch.unplug(options.node)
        case "heal":
            lab.heal()
        case "freeze":
            lab.freeze(options.node, options.pause_watchdog)
        case "pdu":
            lab.pdu_mode = options.mode
        case "status":
            return status(lab)
        case "serve-pdu":
            Pdu(lab).serve()
        case "power-lost":
            cgroup.leave()
            lab.nodes[options.node].power_lost(options.generation, again=options.exit_status == REBOOT_STATUS)
        case "watchdog-expired":
            cgroup.leave()
            lab.nodes[options.node].power_lost(options.generation, again=lab.watchdog_resets)
        case "cut" | "on" | "thaw" | "isolate" | "san-off" | "san-hang" | "san-resume" as name:
            getattr(lab, name.replace("-", "_"))(options.node)
    return 0


def run(lab: Lab, where: str, words: list[str]) -> None:
    """Become the command. One word is a shell line, as `make exec CMD='...'` hands it over."""
    command = ["sh", "-c", words[0]] if len(words) == 1 else words
    line = lab.enter(where, command or ["bash"])
    environment = {**os.environ, **ENVIRONMENT} if where == "client" else ENVIRONMENT
    os.execvpe(line[0], line, environment)


def status(lab: Lab) -> int:
    if not lab.exists:
        print(f"there is no lab {lab.name}")
        return FAILED
    for name, node in lab.nodes.items():
        print(f"{name}  {'on' if node.powered else 'off':4}{lab.addresses.v4(name)}")
    why = lab.unhealthy()
    print(f"not healthy: {why}" if why else f"healthy, active on {lab.active()}")
    return FAILED if why else 0


def say(line: str) -> None:
    print(f"lab: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
