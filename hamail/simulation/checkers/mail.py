"""S5: acknowledged mail is never lost or altered, and a UID never comes to mean another mail."""

from typing import TYPE_CHECKING

from hamail.simulation.mail import Clients, Verdict

if TYPE_CHECKING:
    from hamail.simulation.world import World


def audit(world: "World", clients: Clients) -> Verdict:
    """Read everything where the group is active. Call it when all is well again; the next `look` raises."""
    node = world.active_on(clients.group)
    verdict = Verdict(unread=True) if node is None else clients.audit(node)
    if verdict.words:
        world.checker.found("S5", clients.group, f"mail of {clients.group}: {verdict.words}")
    return verdict
