#!/bin/sh
# Builds the Debian package from what tools/stage.sh stages: `make deb`. Prints the file's name.
#   deb.sh FOLDER       where it goes
#   PYTHON, TARGET_PYTHON, TARGET_ARCH, CACHE    as for stage.sh
#   COMPRESSION         of dpkg-deb (default xz; none is for the lab, whose disk is this machine's)
# The same sources make the same file, byte by byte.
set -eu
cd "$(dirname "$0")/.."
out=$1
export PYTHON="${PYTHON:-python3}" CACHE="${CACHE:-build/package}"
export TARGET_PYTHON="${TARGET_PYTHON:-$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')}"
export TARGET_ARCH="${TARGET_ARCH:-$(dpkg --print-architecture)}"
version=$("$PYTHON" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
SOURCE_DATE_EPOCH=$(date -d "$(sed -n 's/^ -- .*>  //p' packaging/deb/changelog | head -n 1)" +%s)
export SOURCE_DATE_EPOCH
umask 022

mkdir -p "$out" "$CACHE"
root=$(mktemp -d "$CACHE/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"
tools/stage.sh "$root"

documents=$root/usr/share/doc/hamail
install -D -m 0644 packaging/deb/copyright "$documents/copyright"
gzip -9nc packaging/deb/changelog >"$documents/changelog.gz"
install -D -m 0644 packaging/deb/lintian-overrides "$root/usr/share/lintian/overrides/hamail"
ln -s ../../hamail/samples "$documents/examples"

mkdir "$root/DEBIAN"
install -m 0755 packaging/deb/postinst packaging/deb/prerm packaging/deb/postrm "$root/DEBIAN"
(cd "$root" && find etc -type f -printf '/%p\n' | sort) >"$root/DEBIAN/conffiles"
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
# The newest C library that any of the compiled libraries was built against.
glibc=$(sed -n 's/^Tag: .*manylinux_2_\([0-9]*\)_.*/\1/p' "$root"/usr/lib/hamail/lib/*/site-packages/*.dist-info/WHEEL | sort -n | tail -n 1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$TARGET_ARCH/" -e "s/@GLIBC@/2.${glibc:-17}/" \
    -e "s/@PYTHON@/$TARGET_PYTHON/" -e "s/@PYTHON_NEXT@/3.$((${TARGET_PYTHON#3.} + 1))/" \
    -e "s/@SIZE@/$(du -k -s --apparent-size "$root/usr" | cut -f 1)/" packaging/deb/control >"$root/DEBIAN/control"

package=$out/hamail_${version}_$TARGET_ARCH.deb
dpkg-deb --root-owner-group -Z"${COMPRESSION:-xz}" --build "$root" "$package" >/dev/null
echo "$package"
