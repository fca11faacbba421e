"""The small root process: resource agents, dead-man's switch, watchdog, verification, fence agents."""
