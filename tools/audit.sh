#!/bin/sh
# Known holes in the locked dependencies (pip-audit), and unsafe constructs in our own code (bandit).
#   audit.sh BIN        BIN: folder of the programs bandit and pip-audit
# Ends with 0: nothing found; 1: something found; 3: the advisories cannot be reached, so nothing is known about them.
set -u
cd "$(dirname "$0")/.."
bin=$1
result=0

"$bin/bandit" -q -r hamail -c pyproject.toml -ll || result=1

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# --strict: a package that could not be looked up must not count as one without holes.
if "$bin/pip-audit" --strict --progress-spinner off --disable-pip --require-hashes --timeout 20 ${AUDIT_FLAGS:-} \
    -r requirements/run.txt -r requirements/dev.txt >"$log" 2>&1 && ! grep -q "could not be audited" "$log"; then
    echo "audit: no known hole in the locked dependencies"
elif grep -q "^Name .*Version .*ID" "$log"; then
    cat "$log"
    result=1
else
    tail -n 1 "$log" | cut -c1-200
    echo "audit: the advisories cannot be reached from here: whether the dependencies have known holes is NOT known" >&2
    [ "$result" = 1 ] || result=3
fi
exit "$result"
