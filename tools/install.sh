#!/bin/sh
# Installs hamail on this machine from the source tree: what `make install` runs, as root. On Debian the package of
# `make deb` is the better way: it has the same files, and can be removed. Installing again upgrades. Nothing is started
# or restarted, and no configuration is overwritten.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "install: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "run it as root"
[ -x /usr/bin/python3 ] || fail "/usr/bin/python3 is missing"
/usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or later is needed"
/usr/bin/python3 -c 'import ensurepip' 2>/dev/null || fail "the Python venv module is missing (Debian: apt install python3-venv)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 -m venv "$work/tools"
"$work/tools/bin/pip" install -qq --require-hashes -r requirements/build.txt
PYTHON="$work/tools/bin/python" CACHE="$work/cache" tools/stage.sh "$work/root"

rm -rf /usr/lib/hamail # what an older version had and this one has not
tar -C "$work/root" --owner=0 --group=0 -cf - . | tar -C / --no-overwrite-dir -xf -
systemd-sysusers hamail.conf
systemd-tmpfiles --create hamail.conf
[ ! -d /run/systemd/system ] || systemctl daemon-reload
echo "hamail $(/usr/lib/hamail/bin/python -c "import hamail; print(hamail.__version__)") is installed in /usr/lib/hamail"
