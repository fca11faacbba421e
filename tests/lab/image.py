"""Root file systems of the nodes, in cached layers: base (Debian), and hamail, installed from its package.

Each layer is a folder, the upper side of an overlay over the one below, and is named by a hash of what went into it:
the same input is built once on a machine. So is the package. Packages come by the host's own package sources and pip
configuration.
"""

import datetime
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import mailhost

SOURCE = Path(__file__).resolve().parents[2]
FILES = Path(__file__).parent / "files"
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
SUITE = os.environ.get("HAMAIL_LAB_SUITE") or "bookworm"  # the same for every command to one lab
POSTFIX_UNIT = "postfix@-.service" if SUITE == "bookworm" else "postfix.service"  # the one that runs it
PACKAGES = (
    "systemd systemd-sysv dbus postfix dovecot-imapd dovecot-lmtpd python3 iproute2 iputils-arping "
    "iputils-ping nftables procps psmisc e2fsprogs util-linux libcap2-bin resource-agents libxml2-utils"
).split()
EXCLUDED = ("man", "locale", "doc", "info")
PACKAGED = ("hamail", "agents", "etc", "systemd", "packaging", "pyproject.toml", "README.md", "requirements/run.txt")
BUILDERS = ("tools/deb.sh", "tools/stage.sh", "tools/wheel.sh", "tools/manual.py", "tools/reference.py")
PACKAGE_PLACE = "/var/cache/hamail"  # on the nodes: the package that they were made with
BUILD_TIMEOUT_S = 900
KEPT = {"base": 2, "package": 8, "hamail": 8}

# In a mount and process namespace of its own, so that a builder that dies leaves nothing mounted.
LAYER = """set -e
mount -t overlay layer -o lowerdir="$LOWER",upperdir="$UPPER",workdir="$WORK" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs tmp "$ROOT/tmp"
mount --rbind /dev "$ROOT/dev"
mkdir -p "$ROOT/tmp/package"
mount --bind -o ro "$PACKAGE" "$ROOT/tmp/package"
chroot "$ROOT" /bin/sh -e -c "$SCRIPT"
"""


class Images:
    """The cache of layers in one folder. `say` gets a line before each thing that takes time."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say

    def layers(self) -> list[Path]:
        """All layers of a node, the top one first; built where they are not cached."""
        self.folder.mkdir(parents=True, exist_ok=True)
        base = self._cached("base", self._base_key(), self._build_base)
        package = self.package()
        content = hashlib.sha256(next(package.glob("*.deb")).read_bytes()).hexdigest()
        key = [base.name, content, mailhost.SCRIPT, (FILES / "fence_lab").read_text()]
        return [self._cached("hamail", key, lambda to: self._build_hamail(to, base, package)), base]

    def package(self) -> Path:
        """The folder with hamail's package, as `make deb` builds it; built where it is not cached."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._cached("package", [PYTHONS[SUITE], source_hash()], self._build_package)

    def _base_key(self) -> list[str]:
        year, week, _ = datetime.datetime.now(datetime.UTC).isocalendar()
        return [SUITE, *PACKAGES, f"{year}-{week}"]

    def _cached(self, kind: str, key: list[str], build: Callable[[Path], None]) -> Path:
        layer = self.folder / f"{kind}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}"
        with self._locked(kind):
            if not layer.is_dir():
                partial = self.folder / f"{layer.name}.partial"
                shutil.rmtree(partial, ignore_errors=True)
                started_s = time.monotonic()
                build(partial)
                partial.rename(layer)
                self.say(f"{kind} layer built in {time.monotonic() - started_s:.0f} s")
            os.utime(layer)
            self._prune(kind)
        return layer

    @contextmanager
    def _locked(self, kind: str) -> Iterator[None]:
        with (self.folder / f"{kind}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _prune(self, kind: str) -> None:
        """Drop the layers used longest ago, but none that a running lab stands on."""
        mounted = Path("/proc/self/mountinfo").read_text()
        layers = [p for p in self.folder.glob(f"{kind}-*") if p.is_dir() and not p.name.endswith(".partial")]
        for layer in sorted(layers, key=lambda p: p.stat().st_mtime, reverse=True)[KEPT[kind] :]:
            if layer.name not in mounted:
                shutil.rmtree(layer, ignore_errors=True)

    def _build_base(self, target: Path) -> None:
        self.say("building the base image of the nodes (a minute or two, once a week)")
        settings = self.folder / "apt.conf"
        settings.write_text(acquire_settings())
        command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
        command += ["--aptopt=Apt::Install-Recommends false", f"--aptopt={settings}"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in EXCLUDED]
        # How the host reaches its mirrors is the host's business; and no name server means no waiting for one.
        command.append('--customize-hook=cd "$1"; rm -f etc/apt/apt.conf.d/99mmdebstrap; : >etc/apt/sources.list')
        command.append('--customize-hook=cd "$1"; rm -f etc/apt/sources.list.d/*; : >etc/resolv.conf; : >etc/hostname')
        command += [SUITE, str(target), *mirrors()]
        log = self.folder / "base.log"
        with log.open("w") as output:
            result = subprocess.run(
                command, check=False, stdout=output, stderr=subprocess.STDOUT, timeout=BUILD_TIMEOUT_S
            )
        if result.returncode:
            shutil.rmtree(target, ignore_errors=True)
            raise RuntimeError(f"mmdebstrap failed (whole log: {log}):\n{log.read_text()[-2000:]}")

    def _build_package(self, target: Path) -> None:
        self.say("building hamail's package")
        choice = {"PYTHON": sys.executable, "TARGET_PYTHON": PYTHONS[SUITE], "COMPRESSION": "none"}
        result = subprocess.run(
            ["tools/deb.sh", str(target)],
            check=False,
            cwd=SOURCE,
            env={**os.environ, **choice},
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
        if result.returncode:
            shutil.rmtree(target, ignore_errors=True)
            raise RuntimeError(f"building the package failed:\n{(result.stdout + result.stderr)[-3000:]}")

    def _build_hamail(self, target: Path, base: Path, package: Path) -> None:
        self.say("installing hamail's package into a layer")
        install = f"dpkg --force-unsafe-io -i /tmp/package/*.deb; install -D -t {PACKAGE_PLACE} /tmp/package/*.deb"
        agent = (FILES / "fence_lab").read_text()
        place = f"cat >/usr/sbin/fence_lab <<'END_OF_AGENT'\n{agent}\nEND_OF_AGENT\nchmod 0755 /usr/sbin/fence_lab"
        self._run_in_layer(target, base, package, f"{install}\n{place}\n{mailhost.SCRIPT}")

    def _run_in_layer(self, upper: Path, lower: Path, package: Path, script: str) -> None:
        work, root = upper.with_suffix(".work"), upper.with_suffix(".root")
        for folder in (upper, work, root):
            folder.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "LOWER": str(lower),
            "UPPER": str(upper),
            "WORK": str(work),
            "ROOT": str(root),
            "PACKAGE": str(package),
            "SCRIPT": script,
        }
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            LAYER,
        ]
        try:
            result = subprocess.run(
                command,
                check=False,
                env=environment,
                capture_output=True,
                text=True,
                timeout=BUILD_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
            )
        finally:
            shutil.rmtree(work, ignore_errors=True)
            shutil.rmtree(root, ignore_errors=True)
        if result.returncode:
            shutil.rmtree(upper, ignore_errors=True)
            raise RuntimeError(f"building {upper.name} failed:\n{(result.stdout + result.stderr)[-3000:]}")


def source_hash() -> str:
    """Of all that makes the package what it is."""
    digest = hashlib.sha256()
    for name in (*PACKAGED, *BUILDERS):
        top = SOURCE / name
        files = sorted(p for p in top.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        for file in files if top.is_dir() else [top]:
            digest.update(f"{file.relative_to(SOURCE)}\0{file.stat().st_mode}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def mirrors() -> list[str]:
    """APT source lines for SUITE by the mirrors that the host itself uses; none where it uses no Debian mirror."""
    form = "$(SITE) $(CODENAME) $(ORIGIN)"
    command = ["apt-get", "indextargets", "--format", form]
    listing = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    found = sorted({tuple(line.split(maxsplit=2)) for line in listing.stdout.splitlines() if line.count(" ") >= 2})
    lines = []
    for site, codename, origin in found:
        if origin != "Debian" or "backports" in codename:
            continue
        pocket = codename.partition("-")[2]
        lines.append(f"deb {site} {SUITE}{'-' + pocket if pocket else ''} main")
    return sorted(set(lines))


def acquire_settings() -> str:
    """The host's APT settings for reaching its mirrors: proxies, certificates, retries."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True, timeout=60).stdout
    kept = [line for line in dump.splitlines() if line.startswith("Acquire::") and "IndexTargets" not in line]
    return "\n".join(kept) + "\n"
