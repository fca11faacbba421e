"""`python -m hamail.simulation`: many seeds, each a simulated cluster under faults. Ends with 1 on a violation."""

import os
import sys

from hamail.simulation.trial.command import main

if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the real log library iterates sets
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "hamail.simulation", *sys.argv[1:]])  # noqa: S606
    sys.exit(main(sys.argv[1:]))
