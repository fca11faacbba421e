#!/bin/sh
# Puts everything that an installation of hamail consists of below one folder, as it will lie below /. The one builder:
# `make deb`, `make install` and the lab's nodes all have what is staged here.
#   stage.sh DEST       an empty or missing folder
#   PYTHON              with pip and setuptools (default python3); runs the tools here, not what is staged
#   TARGET_PYTHON       version of the Debian Python that will run it (default: /usr/bin/python3's)
#   TARGET_ARCH         Debian's name of the architecture (default: this machine's)
#   CACHE               where the installed dependencies are kept between runs (default build/package)
# Versions and hashes of the dependencies are those of requirements/run.txt; only what is there is taken.
set -eu
cd "$(dirname "$0")/.."
dest=$1
PYTHON=${PYTHON:-python3}
CACHE=${CACHE:-build/package}
TARGET_PYTHON=${TARGET_PYTHON:-$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')}
TARGET_ARCH=${TARGET_ARCH:-$(dpkg --print-architecture 2>/dev/null || uname -m)}
GLIBC_MINOR_MIN=17
GLIBC_MINOR_MAX=36 # of Debian 12: no wheel that needs a newer one is taken
home=/usr/lib/hamail

fail() {
    echo "stage: $1" >&2
    exit 1
}

case $TARGET_ARCH in
amd64 | x86_64) machine=x86_64 ;;
arm64 | aarch64) machine=aarch64 ;;
*) fail "no dependencies are known to exist for $TARGET_ARCH: amd64 or arm64" ;;
esac
[ -z "$(ls -A "$dest" 2>/dev/null)" ] || fail "$dest is not empty"
mkdir -p "$dest" "$CACHE"
work=$(mktemp -d "$CACHE/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

pip() {
    "$PYTHON" -m pip --disable-pip-version-check "$@"
}

# Bytecode that is checked against its source, whatever the times of files say. Where this machine has another Python the
# package brings none, and makes it when it is installed.
bytecode() {
    for candidate in "$PYTHON" "/usr/bin/python$TARGET_PYTHON" "python$TARGET_PYTHON"; do
        if found=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) && [ "$found" = "$TARGET_PYTHON" ]; then
            "$candidate" -m compileall -q -j 0 --invalidation-mode checked-hash -s "$1" -p "$home/lib/python$TARGET_PYTHON/site-packages" "$1"
            return
        fi
    done
}

dependencies() { # dependencies FOLDER: what the lock names, for the target
    minor=$(echo "$TARGET_PYTHON" | cut -d. -f2)
    platforms="--platform manylinux2014_$machine"
    for glibc in $(seq $GLIBC_MINOR_MIN $GLIBC_MINOR_MAX); do platforms="$platforms --platform manylinux_2_${glibc}_$machine"; done
    # shellcheck disable=SC2086 # words
    pip install -qq --no-deps --no-build-isolation --prefer-binary --no-compile --require-hashes -r requirements/run.txt \
        --python-version "$TARGET_PYTHON" --implementation cp --abi "cp3$minor" --abi abi3 --abi none $platforms --target "$1"
    rm -rf "$1/bin" # programs of the libraries: nothing of hamail calls them
    bytecode "$1"
}

key=$(cat requirements/run.txt tools/stage.sh | sha256sum | cut -c 1-16)
site=$CACHE/site-$TARGET_PYTHON-$TARGET_ARCH-$key
(
    flock 9
    if [ ! -d "$site" ]; then
        dependencies "$work/site"
        for old in "$CACHE/site-$TARGET_PYTHON-$TARGET_ARCH"-*; do rm -rf "$old"; done
        mv "$work/site" "$site"
    fi
) 9>"$CACHE/lock"

# hamail itself: its wheel has the code, and all the rest as data.
PYTHON="$PYTHON" tools/wheel.sh "$work/wheel" >/dev/null
pip install -qq --no-deps --no-compile --no-index --python-version "$TARGET_PYTHON" --target "$work/own" "$work"/wheel/*.whl
data=$work/own/share/hamail
rm -rf "$work/own/bin"
rm -f "$work"/own/hamail-*.dist-info/direct_url.json "$work"/own/hamail-*.dist-info/RECORD # they say where it was built
mkdir "$work/code"
mv "$work"/own/hamail "$work"/own/hamail-*.dist-info "$work/code"
bytecode "$work/code"

# An environment of its own, made by hand: `python -m venv` would write paths of this machine into it.
lib=$dest$home/lib/python$TARGET_PYTHON/site-packages
mkdir -p "$lib" "$dest$home/bin" "$dest/usr/bin"
cp -a --no-preserve=ownership "$site/." "$work/code/." "$lib"
ln -s "/usr/bin/python$TARGET_PYTHON" "$dest$home/bin/python"
printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = %s\n' "$TARGET_PYTHON" >"$dest$home/pyvenv.cfg"
for program in hamaild:daemon hamail-executor:executor hamailctl:cli; do
    file=$dest$home/bin/${program%%:*}
    # -I: nothing that the caller's environment or folder says changes what these run
    printf '#!%s/bin/python -I\nfrom hamail.%s.main import main\n\nmain()\n' "$home" "${program##*:}" >"$file"
    chmod 0755 "$file"
    ln -s "../lib/hamail/bin/${program%%:*}" "$dest/usr/bin/${program%%:*}"
done

# Root runs the agents, and so may other cluster managers: under the environment that has hamail in it.
mkdir -p "$dest/usr/lib/ocf/resource.d/hamail"
for agent in "$data"/agents/*; do
    sed "1s|^#!.*|#!$home/bin/python -I|" "$agent" >"$work/agent"
    install -m 0755 "$work/agent" "$dest/usr/lib/ocf/resource.d/hamail/$(basename "$agent")"
done

units=$dest/usr/lib/systemd/system
install -D -m 0644 -t "$units" "$data"/systemd/*.service "$data"/systemd/*.socket "$data"/systemd/*.timer
# Debian's units of Postfix start and stop faster with these, and do the same; see the comments in the files.
for unit in postfix.service postfix@-.service; do
    install -D -m 0644 -t "$units/$unit.d" "$data/systemd/$unit.d/hamail.conf"
done
install -D -m 0644 "$data/systemd/sysusers.conf" "$dest/usr/lib/sysusers.d/hamail.conf"
install -D -m 0644 "$data/systemd/tmpfiles.conf" "$dest/usr/lib/tmpfiles.d/hamail.conf"
for folder in . prometheus grafana; do
    find "$data/samples/$folder" -maxdepth 1 -type f -exec install -D -m 0644 -t "$dest/usr/share/hamail/samples/$folder" {} +
done
install -D -m 0644 packaging/needrestart.conf "$dest/etc/needrestart/conf.d/hamail.conf"

# Man pages and completion come from the commands and the configuration's reader themselves.
libraries=
"$PYTHON" -c 'import click, msgspec' 2>/dev/null || libraries=:$(realpath "$lib")
PYTHONPATH="$PWD$libraries" "$PYTHON" tools/manual.py "$dest/usr/share"
find "$dest/usr/share/man" -type f -exec gzip -9n {} +
find "$dest" -type d -exec chmod 0755 {} +
