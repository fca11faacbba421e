"""S13: a configuration is in force whole or not at all, everywhere."""

from typing import TYPE_CHECKING

from hamail.core.timing import derive
from hamail.model import commands as c
from hamail.model.state import ClusterState

if TYPE_CHECKING:
    from hamail.simulation.checkers.checker import Checker
    from hamail.simulation.machine import Machine


class Configuration:
    def __init__(self, checker: "Checker") -> None:
        self._c = checker

    def committed(self, before: ClusterState, command: c.AnyCommand, outcome: c.Outcome, after: ClusterState) -> None:
        if before.spec is after.spec:
            return
        if not isinstance(command, c.ApplyConfig) or not outcome.accepted:
            self._c.found("S13", "", f"{type(command).__name__} changes the configuration, which it must not")
        elif after.spec != command.spec:
            self._c.found("S13", "", "a configuration is in force in part")
        elif after.config.revision != before.config.revision + 1:
            self._c.found("S13", "", f"revision {after.config.revision} follows {before.config.revision}")
        elif before.config.revision and after.spec.nodes != before.spec.nodes:
            self._c.found("S13", "", "the nodes have changed under a running cluster")

    def settled(self) -> None:
        """At the end, when everybody has had the time to follow: is the same in force on every node?"""
        for machine in self._c.world.machines.values():
            why = self._strays(machine)
            if why:
                self._c.found("S13", "", f"on {machine.name} {why}")

    def _strays(self, machine: "Machine") -> str:
        daemon, spec = machine.daemon, self._c.world.state.spec
        if daemon is None or daemon.engine.problem:
            return ""
        if daemon.engine.state.spec != spec:
            return "another configuration is in force"
        if daemon.engine.timings != derive(spec.detection_ms, spec.watchdog_timeout_s):
            return "other timings are in force"
        executor = machine.executor
        if executor is not None and daemon.engine.local.connected and executor.configured != spec.groups:
            return "the executor works with another configuration"
        return ""
