"""`make pictures`: the screens of the documentation, from real commands on a real lab. Writes docs/pictures.

Terminal screens become SVG, a browser draws the report of a drill. What is shown happened: the active server's power
is cut while `status --watch` runs.
"""

import argparse
import io
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.text import Text

from hamail.practice.plan import STILL_MS
from tests.lab.lab import Lab, LabError

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
COLUMNS = 100
WATCH_LINES = 36
WATCH_LIMIT_S = 20.0
SETTLED_S = 3.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAGE = "1000,2600"  # pixels
# Without the font that rich would fetch from afar.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


class Screens:
    def __init__(self, lab: Lab, say: Callable[[str], None]) -> None:
        self._lab = lab
        self._say = say

    def shot(self, name: str, node: str, command: str) -> None:
        """What a command prints, as in a terminal."""
        environment = f"env COLUMNS={COLUMNS} FORCE_COLOR=1 TERM=xterm-256color"
        shown = self._lab.run(node, f"{environment} {command}", check=False, timeout_s=120)
        self._draw(name, command, Text.from_ansi(shown.stdout + shown.stderr))

    def watch(self, name: str, node: str, until: Callable[[str], bool], fault: Callable[[], None]) -> None:
        """`status --watch` in a terminal of its own, in the moment when `until` is true of what it shows."""
        command = "hamailctl status --watch"
        main, side = pty.openpty()
        environment = [f"COLUMNS={COLUMNS}", f"LINES={WATCH_LINES}", "TERM=xterm-256color"]
        process = subprocess.Popen(
            self._lab.enter(
                node, ["env", *environment, "sh", "-c", f"stty cols {COLUMNS} rows {WATCH_LINES}; {command}"]
            ),
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
        )
        screen = pyte.Screen(COLUMNS, WATCH_LINES)
        stream = pyte.ByteStream(screen)
        try:
            began_s = time.monotonic()
            struck = False
            while time.monotonic() < began_s + WATCH_LIMIT_S:
                if select.select([main], [], [], 0.05)[0]:
                    stream.feed(os.read(main, 65536))
                if not struck and time.monotonic() > began_s + SETTLED_S:
                    struck = True
                    fault()
                if struck and until("\n".join(screen.display)):
                    break
        finally:
            process.terminate()
            process.wait(10)
            os.close(main)
            os.close(side)
        self._draw(name, command, _text(screen))

    def page(self, name: str, html: str) -> None:
        """A page of HTML, as a browser shows it."""
        browser = next(filter(None, map(shutil.which, BROWSERS)), None)
        if browser is None:
            self._say(f"pictures: {name}: no browser ({', '.join(BROWSERS)}), left as it is")
            return
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "page.html"
            source.write_text(html)
            target = FOLDER / f"{name}.png"
            options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={PAGE}"]
            subprocess.run(
                [browser, *options, f"--user-data-dir={folder}/profile", f"--screenshot={target}", source.as_uri()],
                check=True,
                capture_output=True,
                timeout=60,
            )
        self._say(f"pictures: docs/pictures/{name}.png")

    def _draw(self, name: str, title: str, text: Text) -> None:
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
        console.print(text, soft_wrap=False)
        svg = console.export_svg(title=f"$ {title}", code_format=FORMAT, unique_id=name)
        (FOLDER / f"{name}.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
        self._say(f"pictures: docs/pictures/{name}.svg")


def _text(screen: pyte.Screen) -> Text:
    """The screen of the terminal with its colours, without the empty lines at its end."""
    whole = Text()
    for row in range(screen.lines):
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            whole.append(cell.data, Style(color=_colour(cell.fg), bgcolor=_colour(cell.bg), bold=cell.bold))
        whole.append("\n")
    whole.rstrip()
    return whole


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    if re.fullmatch(r"[0-9a-f]{6}", name):
        return f"#{name}"
    return {"brown": "yellow"}.get(name, name.removeprefix("bright"))


def take(lab: Lab, say: Callable[[str], None]) -> None:
    screens = Screens(lab, say)
    lab.up()
    active = lab.wait_healthy()
    standby = next(n for n in ("n1", "n2") if n != active)
    screens.shot("status", "n3", "hamailctl status")
    screens.shot("doctor", active, "hamailctl doctor")
    screens.shot("plan", "n3", f"hamailctl plan --if node-down={active}")
    screens.watch("watch", "n3", lambda shown: "is active" not in shown.splitlines()[0], lambda: lab.cut(active))
    deadline_s = time.monotonic() + WATCH_LIMIT_S
    while lab.active() != standby and time.monotonic() < deadline_s:
        time.sleep(0.5)  # its fence must have been done, or it would hit the node that is switched on again
    lab.on(active)
    lab.wait_healthy()
    screens.shot("history", "n3", "hamailctl history")
    screens.shot("why", "n3", "hamailctl why mail")
    lab.run("n3", "echo any >/root/password; chmod 600 /root/password")
    mailbox = "user1@example.test"
    login = f"--to {mailbox} --user {mailbox} --password-file /root/password --plain --mail-every 500ms"
    time.sleep(STILL_MS / 1000 + 1)  # a drill begins with what has stood still
    held = lab.run("n3", f"hamailctl drill node-loss mail {login} -o /root/drills --yes", check=False, timeout_s=200)
    found = lab.run("n3", "cat /root/drills/*/*.html", check=False)
    if found.returncode == 0:
        screens.page("drill", found.stdout)
    else:
        raise LabError(f"no report of the drill: {held.stdout}{held.stderr}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make pictures", description=__doc__)
    parser.add_argument("--lab", default=os.environ.get("HAMAIL_LAB", "pictures"))
    given = parser.parse_args(arguments)

    def say(words: str) -> None:
        sys.stdout.write(words + "\n")
        sys.stdout.flush()

    FOLDER.mkdir(parents=True, exist_ok=True)
    lab = Lab(given.lab, say)
    try:
        take(lab, say)
    finally:
        lab.down()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
