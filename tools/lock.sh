#!/bin/sh
# Writes requirements/*.txt: every package that hamail or its development needs, with its version and the hashes of its files.
#   lock.sh PYTHON      makes an environment of its own for the tool that does it (uv)
#   UPGRADE=1           take the newest versions; without it what is locked stays as it is where that is possible
# Nothing of where the packages come from is written down: that is for pip's own configuration.
set -eu
cd "$(dirname "$0")/.."
python=$1
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$python" -m venv "$tools"
"$tools/bin/pip" install -qq uv

compile() { # compile FILE OPTION...
    file=requirements/$1.txt
    shift
    "$tools/bin/uv" pip compile -q --generate-hashes --no-header --no-annotate --no-emit-index-url \
        --python-version 3.11 ${UPGRADE:+--upgrade} --output-file "$file" "$@"
}

mkdir -p requirements
compile run pyproject.toml
compile dev --extra dev --constraint requirements/run.txt pyproject.toml
compile audit --extra audit --constraint requirements/run.txt pyproject.toml
echo "setuptools>=77" >requirements/build.in # what building hamail itself needs
compile build requirements/build.in
rm requirements/build.in
