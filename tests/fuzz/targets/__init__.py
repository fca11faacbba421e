"""What is fuzzed, one target a file. Each module has

- `INSTRUMENT`: the modules of hamail whose branches guide the search,
- `seeds()`: well-formed inputs to begin with,
- `one(data)`: one input; it returns if hamail took it or refused it as declared, and lets everything else out,
- `LENGTH_MAX` (optional): no longer inputs than that.
"""

NAMES = (
    "frames",
    "envelope",
    "snapshot",
    "journal",
    "state_files",
    "config_cluster",
    "config_node",
    "executor_wire",
    "executor_server",
    "metadata",
    "agent_output",
    "fence_agent",
    "agent_parameters",
    "engine",
    "round_trips",
    "control_api",
    "client_answers",
    "cli",
    "enrolment",
)
