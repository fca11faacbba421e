"""Names of things. Aliases, not classes: they document signatures and cost nothing."""

from typing import TypeAlias

NodeName: TypeAlias = str
GroupName: TypeAlias = str
ResourceName: TypeAlias = str
DeviceName: TypeAlias = str
RequestId: TypeAlias = str
LogIndex: TypeAlias = int
Epoch: TypeAlias = int  # the log index of a grant, so it only grows; 0 = never granted

NAME_PATTERN = r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"  # clusters, nodes, groups, resources, fence devices
CERTIFICATE_URI = "hamail://{cluster}/{node}"  # the one name in a node's certificate: whoever shows it is that node
ISSUER_URI = "hamail-issuer://{cluster}"  # in the certificate of who keeps the authority; says nothing of any node
