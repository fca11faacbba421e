#!/bin/sh
# Branch coverage of the parts on which safety rests, by the tests that need no lab; fails below the bar.
set -u
cd "$(dirname "$0")/.."
bar=95
packages="core consensus executor"
sources=hamail/core,hamail/consensus,hamail/executor
mkdir -p build
export COVERAGE_FILE=build/coverage
.venv/bin/python -m coverage erase
.venv/bin/python -m coverage run --source="$sources" -m pytest tests/unit tests/consensus tests/scenario tests/simulation ||
    failed="the tests"
.venv/bin/python -m coverage combine -q # one file per process
.venv/bin/python -m coverage report --sort=cover --skip-covered --show-missing
.venv/bin/python -m coverage json -q -o build/coverage.json
for package in $packages; do
    total=$(.venv/bin/python -m coverage report --format=total --include="hamail/$package/*")
    echo "coverage: $package $total % of statements and branches (bar: $bar %)"
    [ "$total" -ge "$bar" ] || failed="${failed:+$failed, }$package"
done
[ -z "${failed:-}" ] || {
    echo "coverage: FAILED: $failed"
    exit 1
}
echo "coverage: PASSED"
