#!/bin/sh
# Installs hamail on this machine from the source tree: what `make install` runs, as root.
#   PREFIX      where the Python environment goes (default /opt/hamail)
#   PIP_FLAGS   more flags for `pip install`
# Installing again upgrades. Nothing is started or restarted, and no configuration is overwritten.
set -eu

PREFIX=${PREFIX:-/opt/hamail}
SOURCE=$(cd "$(dirname "$0")/.." && pwd)
UNITS=/usr/lib/systemd/system
AGENTS=/usr/lib/ocf/resource.d/hamail

fail() {
    echo "install: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "run it as root"
command -v python3 >/dev/null || fail "python3 is missing"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or later is needed"
python3 -c 'import ensurepip' 2>/dev/null || fail "the Python venv module is missing (Debian: apt install python3-venv)"

# Built from a copy: setuptools leaves its work in the tree, and the tree may be read-only.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tar -C "$SOURCE" --exclude='__pycache__' -cf - hamail pyproject.toml $(cd "$SOURCE" && ls README.md 2>/dev/null) | tar -C "$copy" -xf -

[ -x "$PREFIX/bin/python" ] || python3 -m venv "$PREFIX"
case " ${PIP_FLAGS:-} " in
*" --no-deps "*) ;; # whoever says so has put the dependencies there
*)
    # What was tested, and nothing else: versions and hashes are in the lock.
    for lock in build run; do "$PREFIX/bin/pip" install -qq --require-hashes -r "$SOURCE/requirements/$lock.txt"; done
    ;;
esac
# shellcheck disable=SC2086 # flags are words
"$PREFIX/bin/pip" install -qq --upgrade --no-deps --no-build-isolation ${PIP_FLAGS:-} "$copy"

for name in hamaild hamail-executor hamailctl; do
    ln -sf "$PREFIX/bin/$name" "/usr/bin/$name"
done

install -d "$UNITS" /usr/lib/sysusers.d /usr/lib/tmpfiles.d "$AGENTS" /usr/share/hamail
for unit in "$SOURCE"/systemd/*.service "$SOURCE"/systemd/*.socket; do
    sed "s|/opt/hamail|$PREFIX|g" "$unit" >"$UNITS/$(basename "$unit")"
    chmod 0644 "$UNITS/$(basename "$unit")"
done
# Debian's unit of Postfix starts and stops faster with it, and does the same; see the comments in the file.
install -D -m 0644 "$SOURCE/systemd/postfix@-.service.d/hamail.conf" "$UNITS/postfix@-.service.d/hamail.conf"
install -m 0644 "$SOURCE/systemd/sysusers.conf" /usr/lib/sysusers.d/hamail.conf
install -m 0644 "$SOURCE/systemd/tmpfiles.conf" /usr/lib/tmpfiles.d/hamail.conf

# Agents run under the environment that has hamail in it. Root runs them: no one else may write them.
for agent in "$SOURCE"/agents/*; do
    [ -f "$agent" ] || continue
    target="$AGENTS/$(basename "$agent")"
    sed "1s|^#!.*python3*|#!$PREFIX/bin/python|" "$agent" >"$target"
    chmod 0755 "$target"
done

if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers hamail.conf
else
    getent group hamail >/dev/null || groupadd --system hamail
    getent passwd hamail >/dev/null || useradd --system --gid hamail --home-dir /var/lib/hamail --shell /usr/sbin/nologin hamail
fi

# For the operator to take over or not: it changes a unit that is not ours.
install -m 0644 "$SOURCE/systemd/postfix@-.service.d/hamail.conf" /usr/share/hamail/postfix-unit.conf

install -d -m 0700 -o hamail -g hamail /var/lib/hamail
install -d -m 0755 /etc/hamail
install -d -m 0750 -o root -g hamail /etc/hamail/pki
install -d -m 0700 /etc/hamail/secrets
for sample in "$SOURCE"/etc/*; do
    [ -e "$sample" ] && cp -R "$sample" /usr/share/hamail/
done
for sample in "$SOURCE"/etc/*.toml; do
    [ -e "$sample" ] && install -m 0644 "$sample" "/etc/hamail/$(basename "$sample").sample"
done

if [ -d /run/systemd/system ]; then
    systemd-tmpfiles --create hamail.conf
    systemctl daemon-reload
fi
echo "hamail $("$PREFIX/bin/python" -c 'from importlib.metadata import version; print(version("hamail"))') is installed in $PREFIX"
