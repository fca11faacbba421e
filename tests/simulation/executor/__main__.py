"""python -m tests.simulation.executor [--seeds N] [--first S]: the executor's chaos, with its figures."""

import argparse
import contextlib
import logging
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from hamail.simulation.checkers.violation import Violation
from tests.simulation.executor.agents import write_agents
from tests.simulation.executor.world import World


@contextlib.contextmanager
def agent_folder():
    """Agents in a folder that root alone can write."""
    folder = Path(tempfile.mkdtemp(prefix="hamail-sim-", dir="/run"))
    folder.chmod(0o755)
    try:
        write_agents(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--stop", action="store_true", help="stop at the first violation")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    sums, faults, bad = Counter(), Counter(), []
    began = time.process_time()
    with agent_folder() as folder:
        for seed in range(options.first, options.first + options.seeds):
            try:
                world = World(seed, folder)
                world.run()
            except (Violation, Exception) as violation:
                bad.append(seed)
                if options.stop and not isinstance(violation, Violation):
                    raise
                print(
                    f"seed {seed}: {violation}\n" if options.stop else f"seed {seed}: {str(violation).splitlines()[0]}"
                )
                if options.stop:
                    return
            sums.update(world.figures())
            faults.update(world.faults.injected)
    cpu_s = time.process_time() - began
    hours = sums.pop("seconds", 0) / 3600
    figures = ", ".join(f"{v} {k}" for k, v in sums.items())
    print(f"{options.seeds} runs, {hours:.1f} virtual hours, {figures}; {cpu_s:.1f} CPU s; violations: {bad or 'none'}")
    print("faults: " + ", ".join(f"{k} {v}" for k, v in sorted(faults.items())))


if __name__ == "__main__":
    main()
