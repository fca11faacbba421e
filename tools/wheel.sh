#!/bin/sh
# Builds the wheel: `make wheel`. Prints the file's name.
#   wheel.sh FOLDER     where it goes
#   PYTHON              with pip and setuptools (default python3)
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# From a copy: setuptools leaves its work in the tree, and the tree may be read-only.
tar --exclude=__pycache__ -cf - hamail agents etc systemd pyproject.toml README.md | tar -C "$work" -xf -
"${PYTHON:-python3}" -m pip --disable-pip-version-check wheel -qq --no-deps --no-build-isolation -w "$work/wheel" "$work"
mkdir -p "$1"
cp "$work"/wheel/*.whl "$1"
echo "$1/$(basename "$work"/wheel/*.whl)"
