"""A group's failure policy with its present counts, and who is kept from it: the part of `hamailctl status`."""

from hamail.core import hands_off, policy
from hamail.model.ids import GroupName
from hamail.model.spec import Budget
from hamail.model.state import ClusterState
from hamail.model.status import BudgetView, PolicyView


def view(state: ClusterState, name: GroupName, at_ms: int) -> PolicyView:
    spec, g = state.spec.groups[name], state.group(name)
    full = policy.used_up(spec, g, at_ms)
    return PolicyView(
        restarts=str(Budget(limit=spec.restarts, window_ms=spec.restarts_window_ms)),
        restarted=policy.restarts(spec, g, g.owner, at_ms) if g.owner is not None else {},
        failovers=tuple(
            BudgetView(allowed=str(b), limit=b.limit, window_ms=b.window_ms, used=u.used, free_at_ms=u.free_at_ms)
            for b, u in zip(spec.failovers, policy.uses(spec, g, at_ms), strict=True)
        ),
        used_up=policy.words(name, full) if full is not None else "",
        bans=g.bans,
        maintenance=g.maintenance,
        hands_off=hands_off.from_group(state, name),
    )
