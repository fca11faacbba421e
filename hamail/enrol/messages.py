"""What is said between a machine and the issuer: one JSON object in one line each way, then the connection ends."""

from msgspec import Struct

from hamail.model.ids import NodeName

LINE_BYTES_MAX = 1 << 20  # of an answer: it carries the configuration
REQUEST_BYTES_MAX = 16 << 10
DEFAULT_PORT = 7462


class _Message(Struct, frozen=True, kw_only=True, tag_field="ask", forbid_unknown_fields=True):
    pass


class WhoAreYou(_Message, frozen=True, tag="authority"):
    """The authority's certificates: public, and worth nothing before they are compared with the token's fingerprint."""


class Credential(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token proves. Sent to the holder of the authority's certificate only."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Credential({self.id})"


class MayI(_Message, frozen=True, tag="look"):
    """Who would I be? Uses nothing up. `node` empty: by one of my `addresses`."""

    credential: Credential
    addresses: tuple[str, ...]
    node: NodeName = ""
    witness: bool = False


class Join(_Message, frozen=True, tag="join"):
    """Certify this key for this node. Uses the token up."""

    credential: Credential
    node: NodeName
    request: str
    witness: bool = False


class Joined(_Message, frozen=True, tag="joined"):
    """I am set up. Said with the new certificate."""


class Check(_Message, frozen=True, tag="check"):
    """What am I to hold? Said with my certificate; `trusts` are fingerprints of the authorities that I know."""

    trusts: tuple[str, ...]


class Renew(_Message, frozen=True, tag="renew"):
    """Certify this key for the node whose certificate I show."""

    request: str


Request = WhoAreYou | MayI | Join | Joined | Check | Renew


class _Answer(Struct, frozen=True, kw_only=True, tag_field="answer", forbid_unknown_fields=True):
    pass


class Authorities(_Answer, frozen=True, tag="authority"):
    certificates: str


class Offer(_Answer, frozen=True, tag="offer"):
    """`rejoining`: this node was set up before, so what it starts with now stands for a disk that was lost."""

    node: NodeName
    witness: bool
    configuration: str
    rejoining: bool


class Welcome(_Answer, frozen=True, tag="welcome"):
    """`secrets`: file -> content, for the fence devices that this node may run."""

    certificate: str
    authorities: str
    configuration: str
    rejoining: bool
    secrets: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Welcome(secrets of {sorted(self.secrets)})"


class Orders(_Answer, frozen=True, tag="orders"):
    """What a node is to trust, and whether it is to ask for a new certificate now."""

    authorities: str
    renew: bool
    phase: str


class Renewed(_Answer, frozen=True, tag="renewed"):
    certificate: str
    authorities: str


class Noted(_Answer, frozen=True, tag="noted"):
    pass


class Refused(_Answer, frozen=True, tag="refused"):
    reason: str
    hint: str = ""


Answer = Authorities | Offer | Welcome | Orders | Renewed | Noted | Refused
