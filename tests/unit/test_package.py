"""What `make deb` and `make wheel` build: what is in it, whose it is, that it is understood by those who read it."""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.image import source_hash

ROOT = Path(__file__).resolve().parents[2]
TARGET = "3.11"
LIBRARIES = f"usr/lib/hamail/lib/python{TARGET}/site-packages"
KINDS = (".service", ".socket", ".timer", ".path")
UNITS = sorted(unit.name for unit in (ROOT / "systemd").iterdir() if unit.suffix in KINDS)
AGENTS = {agent.name for agent in (ROOT / "agents").iterdir() if agent.is_file()}
PROGRAMS = {"hamaild", "hamail-executor", "hamailctl"}
PAGES = {"man1/hamailctl.1", "man5/cluster.toml.5", "man5/node.toml.5", "man8/hamaild.8", "man8/hamail-executor.8"}
EXPECTED = {
    *(f"usr/bin/{program}" for program in PROGRAMS),
    *(f"usr/lib/hamail/bin/{program}" for program in (*PROGRAMS, "python")),
    "usr/lib/hamail/pyvenv.cfg",
    *(f"usr/lib/ocf/resource.d/hamail/{agent}" for agent in AGENTS),
    *(f"usr/lib/systemd/system/{unit.name}" for unit in (ROOT / "systemd").iterdir() if unit.suffix in KINDS),
    "usr/lib/systemd/system/postfix.service.d/hamail.conf",
    "usr/lib/systemd/system/postfix@-.service.d/hamail.conf",
    "usr/lib/sysusers.d/hamail.conf",
    "usr/lib/tmpfiles.d/hamail.conf",
    "usr/share/hamail/samples/cluster.toml",
    "usr/share/hamail/samples/node.toml",
    "usr/share/hamail/samples/prometheus/hamail.rules.yml",
    "usr/share/hamail/samples/grafana/hamail.json",
    "etc/needrestart/conf.d/hamail.conf",
    *(f"usr/share/man/{page}.gz" for page in PAGES),
    "usr/share/bash-completion/completions/hamailctl",
    "usr/share/zsh/vendor-completions/_hamailctl",
    "usr/share/fish/vendor_completions.d/hamailctl.fish",
    *(f"usr/share/doc/hamail/{name}" for name in ("copyright", "changelog.gz", "examples")),
    "usr/share/lintian/overrides/hamail",
}

pytestmark = [
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed"),
    pytest.mark.skipif(not Path(f"/usr/bin/python{TARGET}").exists(), reason=f"no Python {TARGET} of the distribution"),
]


def run(*words: str | Path, **changed: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **changed}
    return subprocess.run(
        list(map(str, words)), check=True, capture_output=True, text=True, timeout=240, env=environment, cwd=ROOT
    )


def build(folder: Path) -> Path:
    made = run("tools/deb.sh", folder, PYTHON=sys.executable, TARGET_PYTHON=TARGET, COMPRESSION="none")
    return Path(made.stdout.strip())


@pytest.fixture(scope="module")
def made_of() -> str:
    return source_hash()


@pytest.fixture(scope="module")
def package(made_of: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert made_of
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def root(package: Path) -> Iterator[Path]:
    """The package's files, and its control files in DEBIAN."""
    folder = package.parent / "root"
    run("dpkg-deb", "-R", package, folder)
    yield folder
    shutil.rmtree(package.parent)


def field(root: Path, name: str) -> str:
    return re.search(rf"(?m)^{name}: (.*)$", (root / "DEBIAN" / "control").read_text()).group(1)


def test_what_is_in_it(root: Path) -> None:
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or path.is_file()}
    beside = {path for path in found if not path.startswith((LIBRARIES, "DEBIAN/"))}
    assert beside == EXPECTED
    code = {str(p.relative_to(ROOT)) for p in (ROOT / "hamail").rglob("*.py")}
    assert {path.removeprefix(f"{LIBRARIES}/") for path in found if path.endswith(".py")} >= code


def test_whose_it_is_and_who_may_change_it(package: Path) -> None:
    for line in run("dpkg-deb", "-c", package).stdout.splitlines():
        mode, owner, *_rest = line.split()
        place = line.split(" ./", 1)[1]
        assert owner == "root/root", line
        program = place.startswith(("usr/lib/hamail/bin/", "usr/lib/ocf/")) and mode[0] == "-"
        fitting = {
            "d": ("drwxr-xr-x",),
            "l": ("lrwxrwxrwx",),
            "-": ("-rwxr-xr-x",) if program else ("-rw-r--r--", "-rwxr-xr-x"),
        }
        assert mode in fitting[mode[0]], line


def test_the_same_sources_make_the_same_package(made_of: str, package: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    if source_hash() != made_of:
        pytest.skip("somebody has edited the sources meanwhile")
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(package.read_bytes()).digest()


def test_nothing_tells_where_it_was_built(root: Path) -> None:
    mine = [*(root / LIBRARIES / "hamail").rglob("*"), *(root / "usr/lib/hamail/bin").iterdir()]
    mine += [p for p in root.rglob("*") if p.suffix in (".pyc", ".cfg", ".json", ".service")]
    for path in mine:
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert str(ROOT).encode() not in content and b"/build/package/" not in content, path


def test_it_is_what_was_locked(root: Path) -> None:
    """By its own Python, which finds its libraries, and nothing else, wherever the environment lies."""
    python = root / "usr/lib/hamail/bin/python"
    ask = "from importlib.metadata import distributions as d; print(*(f'{x.name}=={x.version}' for x in d()))"
    found = {line.lower().replace("_", "-") for line in run(python, "-I", "-c", ask).stdout.split()}
    lock = (ROOT / "requirements" / "run.txt").read_text()
    locked = {name.lower().replace("_", "-") for name in re.findall(r"(?m)^(\S+==\S+)", lock)}
    assert found == locked | {f"hamail=={field(root, 'Version')}"}
    where = run(python, "-I", "-c", "import hamail, aiohttp, cryptography.x509, psutil, sys; print(hamail.__file__)")
    assert where.stdout.startswith(str(root))


def test_versions_agree(root: Path) -> None:
    version = field(root, "Version")
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()
    assert f'__version__ = "{version}"' in (ROOT / "hamail" / "__init__.py").read_text()
    assert (ROOT / "packaging/deb/changelog").read_text().startswith(f"hamail ({version}) ")


def test_it_asks_for_what_it_needs(root: Path) -> None:
    depends = field(root, "Depends")
    assert f"python3 (>= {TARGET}~), python3 (<< 3.12~)" in depends and "systemd" in depends
    assert re.search(r"libc6 \(>= 2\.\d+\)", depends)
    assert (root / "DEBIAN" / "conffiles").read_text().split() == ["/etc/needrestart/conf.d/hamail.conf"]


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_the_scripts_of_the_package_are_understood(root: Path, script: str) -> None:
    file = root / "DEBIAN" / script
    assert file.stat().st_mode & 0o777 == 0o755
    run("sh", "-n", file)
    assert "systemctl enable" not in file.read_text() and "systemctl start" not in file.read_text()


def test_checksums(root: Path) -> None:
    run("sh", "-c", f"cd {root} && md5sum --quiet -c DEBIAN/md5sums")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS)
def test_units_are_understood(root: Path, unit: str) -> None:
    python = root / f"usr/bin/python{TARGET}"  # of another package
    shutil.copy(shutil.which("true") or "", python)
    try:
        words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"--root={root}", unit]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    finally:
        python.unlink()
    assert (done.returncode, done.stderr) == (0, "")


def test_programs_of_the_units_are_there(root: Path) -> None:
    for unit in (ROOT / "systemd").glob("*.service"):
        for program in re.findall(r"(?m)^ExecStart\w*=(\S+)", unit.read_text()):
            assert os.access(root / program.lstrip("/"), os.X_OK), f"{unit.name}: {program}"
        for title, section in re.findall(r"man:([a-z-]+)\((\d)\)", unit.read_text()):
            assert (root / f"usr/share/man/man{section}/{title}.{section}.gz").exists()


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
@pytest.mark.parametrize("page", sorted(PAGES))
def test_man_pages(root: Path, tmp_path: Path, page: str) -> None:
    text = gzip.decompress((root / f"usr/share/man/{page}.gz").read_bytes())
    file = tmp_path / Path(page).name
    file.write_bytes(text)
    complaints = subprocess.run(["mandoc", "-Tlint", "-Wwarning", file], check=False, capture_output=True, text=True)
    assert complaints.stdout == ""
    shown = run("mandoc", "-Tascii", "-O", "width=80", file).stdout
    assert re.search(r"N.?.?N?A.?.?A?M.?.?M?E", shown) and "hamail" in shown


def test_the_man_page_has_every_command(root: Path) -> None:
    from hamail.cli.main import cli
    from tools.reference import commands

    text = gzip.decompress((root / "usr/share/man/man1/hamailctl.1.gz").read_bytes()).decode().replace("\\-", "-")
    titles = set(re.findall(r'(?m)^\.SS "(.*)"$', text))
    assert titles == {" ".join(words[1:]) for words, c in commands(cli, ("hamailctl",)) if words[1:] and not c.hidden}


def test_completion(root: Path) -> None:
    file = root / "usr/share/bash-completion/completions/hamailctl"
    loaded = run("bash", "--norc", "-c", f"source {file} && complete -p hamailctl").stdout
    assert "-F _hamailctl_completion hamailctl" in loaded
    python, ask = root / "usr/lib/hamail/bin/python", root / "usr/lib/hamail/bin/hamailctl"
    asked = {"_HAMAILCTL_COMPLETE": "bash_complete", "COMP_WORDS": "hamailctl main", "COMP_CWORD": "1"}
    assert run(python, "-I", ask, **asked).stdout.split() == ["plain,maintenance"]
    for other in ("zsh/vendor-completions/_hamailctl", "fish/vendor_completions.d/hamailctl.fish"):
        assert "_HAMAILCTL_COMPLETE" in (root / "usr/share" / other).read_text()


def test_needrestart_leaves_the_executor_alone(root: Path) -> None:
    text = (root / "etc/needrestart/conf.d/hamail.conf").read_text()
    for unit in ("hamail-executor.service", "hamail-agents.service"):
        assert f"qr(^{unit.replace('.', chr(92) + '.')}$)}} = 0;" in text


def test_wheel(tmp_path: Path) -> None:
    """It installs, its programs run, and what is no Python is there as data."""
    wheel = Path(run("tools/wheel.sh", tmp_path, PYTHON=sys.executable).stdout.strip())
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    run(sys.executable, "-m", "pip", "-qq", "--python", python, "install", "--no-deps", "--no-index", wheel)
    libraries = next(Path(p) for p in sys.path if p.endswith("site-packages"))
    for program in PROGRAMS:
        assert "Usage" in run(tmp_path / "env/bin" / program, "--help", PYTHONPATH=str(libraries)).stdout
    data = tmp_path / "env/share/hamail"
    assert {a.name for a in (data / "agents").iterdir()} == AGENTS
    assert {u.name for u in (data / "systemd").iterdir()} == {u.name for u in (ROOT / "systemd").iterdir()}
    samples = {s.name for s in (data / "samples").rglob("*") if s.is_file()}
    assert samples == {"cluster.toml", "node.toml", "hamail.rules.yml", "hamail.json"}
    told = run(python, data / "agents" / "postfix", "meta-data", PYTHONPATH=str(libraries)).stdout
    assert '<resource-agent name="postfix"' in told
