#!/bin/sh
# Runs the tests and ends with counts and one verdict line.
#   test.sh            everything: the quick suites, then the cluster on real nodes
#   test.sh quick      what needs no lab
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

run() { # run NAME FOLDER...: pytest on the folders that are there
    name=$1
    shift
    folders=""
    for folder in "$@"; do [ -n "$(find "$folder" -name 'test_*.py' 2>/dev/null | head -n 1)" ] && folders="$folders $folder"; done
    [ -n "$folders" ] || return 0
    say "$name:$folders"
    # shellcheck disable=SC2086 # words
    .venv/bin/python -m pytest --durations=5 --junitxml="build/test-$name.xml" $folders || failed="$failed $name"
}

failed=""
rm -f build/test-*.xml
if [ "$what" != cluster ]; then tools/setup.sh tests || failed="$failed packages"; fi
if [ "$what" != quick ]; then tools/setup.sh packages || failed="$failed packages"; fi
make -s venv || exit 1
[ "$what" = cluster ] || run quick tests/unit tests/consensus tests/scenario tests/simulation tests/model tests/fuzz
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
