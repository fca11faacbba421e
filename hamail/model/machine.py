"""What can be seen of one machine, as root, for `hamailctl doctor`: a closed set of facts, without any secret.

Nothing here decides anything about the cluster. Facts travel between nodes, so every list has a limit.
"""

from msgspec import Struct

FILES_MAX = 300  # digests of configuration files
LINES_MAX = 20  # sentences of one kind
DKIM_KEYS_MAX = 20
TEXT_CHARS_MAX = 500  # of one setting
CERTIFICATE_BYTES_MAX = 6000
FACTS_BYTES_MAX = 40 << 10  # of all of it, on the wire: it shares the links with heartbeats, and must not hold them up


class Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    uid: int
    gid: int


class ProgramFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of Postfix or Dovecot that matter here. `problem`: why they cannot be read."""

    settings: dict[str, str] = {}
    problem: str = ""


class CertificateFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first certificate of the file that a service is configured with (DER); keys are never read out."""

    path: str
    der: bytes = b""
    problem: str = ""


class StorageFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file system that a group mounts, as this machine sees it.

    `bare`: what is under the mount point while nothing is mounted: immutable | unwritable | open | filled | missing |
    hidden (something is mounted there now).
    """

    directory: str
    device: str
    present: bool = False
    size_bytes: int = 0
    uuid: str = ""
    fstype: str = ""
    mounted: bool = False
    bare: str = "hidden"
    problem: str = ""


class DkimKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signing key of this machine: its public half only (base64 of the DER form, as DNS has it)."""

    domain: str
    selector: str
    public: str = ""
    problem: str = ""


class MachineFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    hostname: str = ""
    virtual: str = ""  # "none" on real hardware, else the hypervisor's name; "" when nobody can tell
    networks: dict[str, tuple[str, ...]] = {}  # interface -> addresses with prefix
    users: dict[str, Account] = {}
    groups: dict[str, int] = {}
    postfix: ProgramFacts | None = None  # None: not installed
    dovecot: ProgramFacts | None = None
    certificates: dict[str, CertificateFacts] = {}  # "SMTP" | "IMAP"
    files: dict[str, str] = {}  # configuration file -> digest; two bytes of it where not everybody may read the file
    files_left_out: int = 0  # more than FILES_MAX
    storage: dict[str, StorageFacts] = {}  # "group/resource"
    units: dict[str, str] = {}  # unit -> enabled | disabled | ..., as systemd says
    rivals: tuple[str, ...] = ()  # who else might manage an address or a file system of a group, in sentences
    fstab: tuple[str, ...] = ()  # its lines that name a device or mount point of a group
    dkim: tuple[DkimKey, ...] = ()
    problems: tuple[str, ...] = ()  # what could not be looked at, and why
