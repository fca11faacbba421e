"""How planted bugs are hunted: short trials of the kinds of faults that concern their rule."""

from hamail.simulation.trial.draw import focused
from hamail.simulation.trial.run import Run
from hamail.simulation.trial.settings import Settings


def hunted(requires, *only, given=None, faults=12, **settings):
    """`given`: parameters of the faults that are not to be drawn. `settings`: of the cluster."""

    def hunt(seed):
        Run(focused(Settings(seed=seed, requires=requires, **settings), only, faults, **(given or {}))).go()

    return hunt
