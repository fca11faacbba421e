"""What an administrator was asked, or has said on the command line, before anything is made of it."""

import re

from msgspec import Struct

from hamail.config.rules.secrets import looks_secret
from hamail.model.ids import DeviceName, NodeName
from hamail.setup.problem import SetupError

SECRETS = "/etc/hamail/secrets"
FENCE_EXAMPLE = '--fence "pdu fence_apc_snmp n1=1 n2=2 ip=10.0.0.250 username=hamail password=@/root/pdu.password"'


class Fence(Struct, frozen=True, kw_only=True):
    """`secrets`: parameter -> file to read it from now; it is kept in a file of its own in /etc/hamail/secrets."""

    name: DeviceName
    agent: str
    targets: dict[NodeName, str]
    parameters: dict[str, str]
    secrets: dict[str, str]

    def secret_file(self, parameter: str) -> str:
        first = next(iter(self.secrets))
        return f"{SECRETS}/{self.name}" if parameter == first else f"{SECRETS}/{self.name}.{parameter}"


class Answers(Struct, frozen=True, kw_only=True):
    cluster: str
    nodes: dict[NodeName, str]  # the mail servers: name -> address
    witness: dict[NodeName, str]  # one: name -> address
    vips: tuple[str, ...]
    interface: str
    device: str
    mount: str
    fstype: str
    fences: tuple[Fence, ...] = ()
    watchdog: str = ""
    virtual: bool = False
    unsafe_reason: str = ""


def read_named(text: str, option: str) -> tuple[str, str]:
    """ "n1=10.0.0.11". Raises SetupError."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise SetupError(f"{option} {text!r} is not of the form NAME=ADDRESS", f"As in: {option} n1=10.0.0.11")
    return name.strip(), value.strip()


def read_fence(text: str, nodes: dict[NodeName, str]) -> Fence:
    """ "NAME AGENT node=plug ... parameter=value ... password=@FILE". Raises SetupError."""
    words = text.split()
    if len(words) < 2 or any("=" in word for word in words[:2]):
        raise SetupError("--fence begins with a name for the device and its fence agent", f"As in: {FENCE_EXAMPLE}")
    targets, parameters, secrets = {}, {}, {}
    for word in words[2:]:
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise SetupError(f"--fence {words[0]}: {key!r} has no value", f"As in: {FENCE_EXAMPLE}")
        if key in nodes:
            targets[key] = value
        elif value.startswith("@"):
            secrets[key] = value[1:]
        elif looks_secret(key):
            raise SetupError(
                f"--fence {words[0]}: {key} is a secret, and all users of this machine see command lines",
                f"Put it into a file that only root reads, and say {key}=@FILE",
            )
        else:
            parameters[key] = value
    if not targets:
        raise SetupError(
            f"--fence {words[0]} names no node that it switches", f"Say which plug is whose, as in: {FENCE_EXAMPLE}"
        )
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", words[0]):
        raise SetupError(f"--fence: {words[0]!r} is no name: a-z, 0-9 and -, at most 32 characters")
    return Fence(name=words[0], agent=words[1], targets=targets, parameters=parameters, secrets=secrets)
