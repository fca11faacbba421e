"""People who put right what is broken, and do what the cluster asks them for."""

from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName
from hamail.model.state import Phase
from hamail.simulation.faults.clocks import RATE_PPM_MAX
from hamail.simulation.faults.disks import renew, usual_speed
from hamail.simulation.fence_device import Mood
from hamail.simulation.machine import Machine
from hamail.simulation.watchdog import Dog
from hamail.simulation.world import World


def repair_machine(machine: Machine) -> None:
    """Whatever was wrong with it: it works, and what had given up is started anew."""
    machine.start_fails.clear()
    machine.stop_fails = False
    machine.agents.heal()
    machine.start_ms = min(machine.start_ms, 300.0)
    machine.dog.mood = Dog.WORKS
    usual_speed(machine)
    machine.set_rate(max(-RATE_PPM_MAX, min(RATE_PPM_MAX, machine.clock.rate_ppm)))
    machine.resume()
    given_up = machine.journal_problem or (machine.daemon is not None and machine.daemon.engine.problem)
    machine.repair_disk()
    if machine.daemon is not None and machine.daemon.hung:
        machine.daemon.wake()
    if not machine.powered:
        machine.power_on()
    if not machine.witness:
        machine.start_executor()
    machine.start_daemon()
    if given_up or (machine.daemon is not None and machine.daemon.engine.problem):
        renew(machine)
    for lun in machine.world.luns.values():
        for trouble in (lun.cut_off, lun.hung, lun.mounted_read_only):
            trouble.discard(machine.name)
    machine.world.switch.cut_off.discard(machine.name)
    machine.world.switch.deaf = False


def mend_links(world: World, nodes: set[NodeName]) -> None:
    """Between these nodes; what leads to the others stays as it is."""
    for a in nodes:
        for b in nodes:
            world.network.slow_ms.pop((a, b), None)
            if a != b:
                world.network.mend(a, b)


def repair_devices(world: World) -> None:
    for device in world.devices.values():
        device.mood, device.takes_ms = Mood.WORKS, 200
        device.unreachable_from.clear()


def break_for_good(world: World, name: NodeName, how: str) -> None:
    machine = world.machines[name]
    machine.returns_ms = machine.reboot_ms = None
    world.remark(f"{name} stays broken: {how}")
    match how:
        case "off":
            world.power_off(name)
        case "isolated":
            world.isolate(name)
        case "disk":
            machine.hang_disk(True)


class Operators:
    """They do what `hamailctl status` asks for. Who vouches that a node is off has switched it off."""

    def __init__(self, world: World, look_ms: int) -> None:
        self._world = world
        self._look_ms = look_ms
        self._at_work = True
        self._look()

    def leave(self) -> None:
        self._at_work = False

    def _look(self) -> None:
        if not self._at_work:
            return
        self._world.agenda.after_ms(self._look_ms, self._look)
        if self._world.peace:
            self._see_to_disks()
            self._see_to_suspended()
        state = self._world.state
        at_ms = self._world.wall_ms
        if state.maintenance.on:
            self._send(c.SetMaintenance(at_ms=at_ms, on=False))
        for name, node in state.nodes.items():
            if node.standby:
                self._send(c.SetStandby(at_ms=at_ms, node=name, standby=False))
        if self._world.peace:
            self._lift_policies()
        for name in state.spec.groups:
            self._see_to(name)

    def _lift_policies(self) -> None:
        """What would end by itself, but perhaps by a wall clock that was put years ahead."""
        state, at_ms = self._world.state, self._world.wall_ms
        for order in state.scheduled:
            self._send(c.Cancel(at_ms=at_ms, order=order.id))
        for name, node in state.nodes.items():
            if node.maintenance is not None:
                self._send(c.HandsOff(at_ms=at_ms, on=False, node=name))
        for name in state.spec.groups:
            g = state.group(name)
            if g.maintenance is not None:
                self._send(c.HandsOff(at_ms=at_ms, on=False, group=name))
            for node_name in g.bans:
                self._send(c.LiftBan(at_ms=at_ms, group=name, node=node_name))

    def _see_to_disks(self) -> None:
        """A hamaild that has given up on what its disk holds, where the disk is said to work."""
        for machine in self._world.machines.values():
            daemon = machine.daemon
            if machine.powered and not machine.disk_hangs and daemon is not None and daemon.engine.problem:
                renew(machine)

    def _see_to_suspended(self) -> None:
        """Who cannot hear that maintenance is over may hold its groups for ever; status warns of it by name."""
        maintenance = self._world.state.maintenance
        for name in maintenance.suspended if not maintenance.on else ():
            if self._world.machines[name].disk_hangs:
                self._world.power_off(name)

    def _see_to(self, name: GroupName) -> None:
        g, at_ms = self._world.state.group(name), self._world.wall_ms
        if g.phase is Phase.BLOCKED and g.owner is not None:
            self._world.power_off(g.owner)
            life = self._world.state.node(g.owner).life
            self._send(c.FenceConfirmed(at_ms=at_ms, target=g.owner, life=life))
        elif g.phase is not Phase.ACTIVE and (g.failed_on or g.phase in (Phase.FENCING, Phase.IDLE)):
            self._send(c.Clear(at_ms=at_ms, group=name))

    def _send(self, command: c.AnyCommand) -> None:
        leader = self._world.log.leader
        if leader is not None:
            self._world.remark(f"operator: {type(command).__name__}")
            self._world.log.propose(leader, command, _ignore)


def _ignore(_result: c.Outcome | c.Unknown) -> None:
    pass
