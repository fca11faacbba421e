"""A `doveconf` and a `dovecot` that answer as those of Debian 13 did; see the folder dovecot24."""

import sys
from pathlib import Path

RECORDED = Path(__file__).parent / "dovecot24"
# A setting that 2.4 does not know is passed over in silence; with -h it takes one name only.
SCRIPT = """#!{python}
import sys
from pathlib import Path
words = sys.argv[1:]
if words == ["--version"]:
    sys.exit(print("2.4.1-4 (7d8c0e5759)"))
if words[0] == "-c":
    words = words[2:]
if words == ["-n"]:
    sys.exit(print(Path("{recorded}-n.txt").read_text(), end=""))
names = [word for word in words if not word.startswith("-")]
if "-h" in words and len(names) > 1:
    print("doveconf: Fatal: Multiple settings matched with -h parameter", file=sys.stderr)
    sys.exit(89)
if "-a" in words:
    sys.exit("the recording has no answer to -a")
known = dict(line.split(" =", 1) for line in Path("{recorded}.txt").read_text().splitlines() if " =" in line)
known |= {{"libexec_dir": " /usr/lib/dovecot", "state_dir": " /var/lib/dovecot"}}
for name in names:
    if name in known:
        print(known[name].strip() if "-h" in words else f"{{name}} ={{known[name]}}")
    elif name == "ssl_server/cert_file":
        print("ssl_server {{", f"  cert_file ={{known['  cert_file']}}", "}}", sep="\\n")
"""


def install(folder: Path, recording: str) -> None:
    """As the programs of `folder`. `recording`: "stock" or "pair"."""
    for name in ("doveconf", "dovecot"):
        file = folder / name
        file.write_text(SCRIPT.format(python=sys.executable, recorded=RECORDED / recording))
        file.chmod(0o755)
