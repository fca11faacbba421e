#!/bin/sh
# Branch coverage of the parts on which safety rests, by the tests that need no lab; fails below the bar.
# Two runs side by side, the output of the second one after the first. What is measured, and how what runs in processes
# of its own counts as well: [tool.coverage] in pyproject.toml.
set -u
cd "$(dirname "$0")/.."
mkdir -p build/branches
rm -f build/branches/*
export COVERAGE_FILE="$PWD/build/branches/data" # absolute: some of the processes work elsewhere
python="$PWD/.venv/bin/python"
failed=""
nice=""

# Not run: seeds that nobody has tried before (the figure is to be the same each time), and a test of what is loaded
# at start-up, which would find coverage itself.
measure() { # measure FOLDER...
    echo "coverage: $*"
    $nice "$python" -m coverage run -m pytest "$@" --deselect tests/simulation/test_trial.py::test_fresh_seeds \
        --deselect tests/unit/test_cli_process.py::test_start_up_loads_nothing_heavy
}

# these live in virtual time, so they can wait; the unit tests have real deadlines
nice="nice -n 10" measure tests/consensus tests/scenario tests/simulation >build/branches/other.log 2>&1 &
other=$!
measure tests/unit || failed="tests"
wait "$other" || failed="tests"
cat build/branches/other.log
"$python" -m coverage combine -q # one file per process
"$python" -m coverage report --sort=cover --skip-covered --show-missing
"$python" -m coverage json -q -o build/branches/report.json
"$python" tools/branches.py build/branches/report.json $failed
