#!/bin/sh
# What the make targets need on a Debian-like machine, installed only where it is missing.
#   setup.sh packages              Debian packages of the lab (root)
#   setup.sh tests                 Debian packages that the tests without a lab use (root)
#   setup.sh venv PYTHON FOLDER    Python environment with the project and its development tools
set -eu
cd "$(dirname "$0")/.."

# A program that shows that the package is there, and the package.
LAB_PACKAGES="
mmdebstrap:mmdebstrap
systemd-nspawn:systemd-container
nft:nftables
ip:iproute2
mke2fs:e2fsprogs
arping:iputils-arping
losetup:mount
nsenter:util-linux
"

# The agents are tried on real services and file systems, in namespaces of their own; the model is checked with spin.
TEST_PACKAGES="
postfix:postfix
dovecot:dovecot-imapd
xmllint:libxml2-utils
mkfs.xfs:xfsprogs
ocf-tester:resource-agents
ip:iproute2
mke2fs:e2fsprogs
losetup:mount
nsenter:util-linux
spin:spin
gcc:gcc
dpkg-deb:dpkg
mandoc:mandoc
"

say() {
    echo "setup: $1"
}

apt() {
    log=$(mktemp)
    if ! DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

install_packages() {
    [ -n "$1" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "missing packages:$1 (not root, or no apt-get: install them by hand)" >&2
        return 0 # the feature probe of the lab names what is then lacking
    fi
    say "installing$1"
    # shellcheck disable=SC2086 # words
    apt install --no-install-recommends $1 || { say "updating the package lists first"; apt update && apt install --no-install-recommends $1; }
}

lacking() { # lacking LIST: sets `missing` to the packages whose program is not there
    missing=""
    for pair in $1; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
    done
}

tests() {
    lacking "$TEST_PACKAGES"
    [ -n "$missing" ] || return 0
    # Postfix and Dovecot are needed as programs. As services they would start to serve this machine: not wanted.
    policy=/usr/sbin/policy-rc.d
    if [ "$(id -u)" = 0 ] && [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
    fi
    install_packages "$missing"
}

packages() {
    lacking "$LAB_PACKAGES"
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$missing debian-archive-keyring"
    install_packages "$missing"
}

venv() {
    python=$1 folder=$2
    if ! command -v "$python" >/dev/null || ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages " python3 python3-venv"
    fi
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { say "Python 3.11 or later is needed" >&2; exit 1; }
    [ -x "$folder/bin/python" ] || { say "making the Python environment $folder"; "$python" -m venv "$folder"; }
    say "installing hamail and its development tools into $folder"
    # What was tested, and nothing else: versions and hashes are in the lock.
    "$folder/bin/pip" install -qq --require-hashes -r requirements/dev.txt
    "$folder/bin/pip" install -qq --no-deps --no-build-isolation -e .
}

command=$1
shift
"$command" "$@"
