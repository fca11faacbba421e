"""Names of things. Aliases, not classes: they document signatures and cost nothing."""

from typing import TypeAlias

NodeName: TypeAlias = str
GroupName: TypeAlias = str
ResourceName: TypeAlias = str
DeviceName: TypeAlias = str
RequestId: TypeAlias = str
LogIndex: TypeAlias = int
Epoch: TypeAlias = int  # the log index of a grant, so it only grows; 0 = never granted
