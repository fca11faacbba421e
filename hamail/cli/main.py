"""hamailctl: ask and tell the hamaild of this machine."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from hamail.cli import (
    act,
    audit,
    availability,
    config,
    drill,
    history,
    incident,
    look,
    metrics,
    moves,
    plan,
    policy,
    probe,
    report,
    revisions,
    runbook,
    status,
)
from hamail.cli.app import App, Exit, end_with, examples, silence
from hamail.cli.doctor import doctor
from hamail.cli.importer import importer
from hamail.cli.maintenance import maintenance
from hamail.cli.pki import pki
from hamail.cli.setup import init, join
from hamail.cli.token import token
from hamail.control.api import DEFAULT_SOCKET

EXIT_CODES = """\b
Exit codes:
  0 done, 1 failed, 2 wrong usage, 3 refused (with reasons), 4 surely not done,
  5 outcome unknown (the printed request id makes a retry safe),
  6 the answer is no (plan: service would stop)
"""


class _Main(click.Group):
    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        return super().make_context(info_name, args, parent, **{**extra, "obj": tuple(args)})

    def invoke(self, ctx: click.Context) -> Any:
        from hamail.control.client import ControlError

        try:
            return super().invoke(ctx)
        except ControlError as error:
            end_with(ctx.ensure_object(App), error)
        except click.UsageError as error:
            app = ctx.obj if isinstance(ctx.obj, App) else App("", ctx.obj or ())
            if "--json" not in app.words:
                raise
            app.json = True  # the option itself may not have been reached
            where = error.ctx.command_path if error.ctx is not None else "hamailctl"
            app.end(Exit.USAGE, error.format_message(), [f"{where} --help"])
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except BrokenPipeError:
            silence(sys.stdout)
            silence(sys.stderr)
            raise SystemExit(int(Exit.FAILED)) from None


@click.group(
    cls=_Main,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("hamailctl status", "hamailctl switchover mail --to n2", "hamailctl why mail")
    + "\n\n"
    + EXIT_CODES,
)
@click.option(
    "--socket", metavar="PATH", envvar="HAMAIL_SOCKET", default=DEFAULT_SOCKET, show_default=True, show_envvar=True
)
@click.pass_context
def cli(ctx: click.Context, socket: str) -> None:
    """Failover for pairs of mail servers: look at the cluster and move its groups.

    Members of the group hamail may look, root may act.
    """
    ctx.obj = App(socket, ctx.obj)


for _command in (
    init,
    join,
    token,
    pki,
    status.status,
    *moves.COMMANDS,
    *act.COMMANDS,
    maintenance,
    *policy.COMMANDS,
    *history.COMMANDS,
    plan.plan,
    config.config,
    look.timing,
    look.version,
    doctor,
    importer,
    *probe.COMMANDS,
    *drill.COMMANDS,
    *audit.COMMANDS,
    *report.COMMANDS,
    *metrics.COMMANDS,
    *runbook.COMMANDS,
    *availability.COMMANDS,
    *incident.COMMANDS,
):
    cli.add_command(_command)


for _command in revisions.COMMANDS:
    config.config.add_command(_command)


def main() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the caller has closed it: `>&-`
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - as long as this process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a name in a strange encoding must not end in a traceback
    cli(prog_name="hamailctl")


if __name__ == "__main__":
    main()
