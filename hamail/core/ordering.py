"""In which order the resources of a group start and stop: each as soon as what it needs allows, not in one long row."""

from hamail.model.ids import ResourceName
from hamail.model.spec import ResourceSpec


def ready_to_start(
    resources: tuple[ResourceSpec, ...], up: frozenset[ResourceName], begun: frozenset[ResourceName]
) -> tuple[ResourceSpec, ...]:
    """Resources not yet begun whose every `after` is up."""
    return tuple(r for r in resources if r.name not in begun and up.issuperset(r.after))


def ready_to_stop(
    resources: tuple[ResourceSpec, ...], stopped: frozenset[ResourceName], begun: frozenset[ResourceName]
) -> tuple[ResourceSpec, ...]:
    """Resources whose stop has not begun and on which nothing stands any more."""
    return tuple(
        r for r in resources if r.name not in begun and all(d.name in stopped for d in standing_on(resources, r.name))
    )


def standing_on(resources: tuple[ResourceSpec, ...], name: ResourceName) -> tuple[ResourceSpec, ...]:
    """Resources that name `name` in their `after`."""
    return tuple(r for r in resources if name in r.after)


def waves(resources: tuple[ResourceSpec, ...]) -> tuple[tuple[ResourceName, ...], ...]:
    """The start order as a person reads it. Raises ValueError naming the resources of a cycle."""
    up: frozenset[ResourceName] = frozenset()
    result = []
    while len(up) < len(resources):
        wave = tuple(r.name for r in ready_to_start(resources, up, up))
        if not wave:
            stuck = sorted(r.name for r in resources if r.name not in up)
            raise ValueError(f"these resources wait for each other: {', '.join(stuck)}")
        result.append(wave)
        up = up.union(wave)
    return tuple(result)
