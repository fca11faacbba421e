#!/bin/sh
# Runs the tests and ends with counts and one verdict line.
#   test.sh            everything: the quick suites, then the cluster on real nodes
#   test.sh quick      what needs no lab: two runs side by side, the output of the second one after the first
#   test.sh cluster    the cluster only
# In CI (CI=true) a machine that cannot host the lab is a failure; elsewhere those tests are skipped, and it is said so.
set -u
cd "$(dirname "$0")/.."
what=${1:-all}
started=$(date +%s)
export PATH="$PATH:/usr/sbin:/sbin"
mkdir -p build

say() {
    echo "test: $1"
}

suite() { # suite NAME FOLDER...
    name=$1
    shift
    .venv/bin/python -m pytest --durations=5 --junitxml="build/test-$name.xml" "$@"
}

run() { # run NAME FOLDER...
    say "$1"
    suite "$@" || failed="$failed $1"
}

quick() {
    # The letters share the unit tests out so that both runs take as long.
    say "proof, beside the next: tests/scenario tests/simulation tests/model tests/fuzz, and unit tests from p on"
    suite proof tests/scenario tests/simulation tests/model tests/fuzz tests/unit/test_[p-z]*.py >build/test-proof.log 2>&1 &
    proof=$!
    run unit tests/consensus tests/unit/test_[!p-z]*.py
    wait "$proof" || failed="$failed proof"
    say "proof:"
    cat build/test-proof.log
}

failed=""
rm -f build/test-*.xml
if [ "$what" != cluster ]; then tools/setup.sh tests || failed="$failed packages"; fi
if [ "$what" != quick ]; then tools/setup.sh packages || failed="$failed packages"; fi
make -s venv || exit 1
[ "$what" = cluster ] || quick
if [ "$what" != quick ]; then
    if lacks=$(.venv/bin/python -m tests.lab check); then
        run cluster tests/cluster
    elif [ "${CI:-}" = true ]; then
        say "$lacks"
        failed="$failed cluster"
    else
        say "SKIPPED, the whole cluster suite: $lacks"
        skipped_cluster=1
    fi
fi
.venv/bin/python tools/verdict.py "$(($(date +%s) - started))" "${skipped_cluster:-0}" $failed build/test-*.xml
