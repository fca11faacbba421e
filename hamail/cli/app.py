"""What every command shares: where hamaild is, how to print, how to end."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console

    from hamail.control.client import ControlClient, ControlError

JSON_SCHEMA = 1  # of an output that names no other version: see `outputs`
COLUMNS_UNKNOWN = 120  # width when the output is not a terminal

F = TypeVar("F", bound=Callable[..., Any])


class Exit(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_DONE = 4
    UNKNOWN = 5
    NO = 6  # it was a question, and the answer is no: service would not go on


class App:
    """One run of hamailctl."""

    def __init__(self, socket: str, words: Sequence[str] = ()) -> None:
        """`words`: the command line, without the name of the program."""
        self.socket = socket
        self.words = words
        self.json = False
        self.order = False  # it changes something, whether or not anybody reads what it says
        self._console: Console | None = None

    @property
    def client(self) -> "ControlClient":
        from hamail.control.client import ControlClient

        return ControlClient(self.socket)

    @property
    def console(self) -> "Console":
        if self._console is None:
            from rich.console import Console

            app = self

            class Output(Console):
                def print(self, *objects: Any, **options: Any) -> None:
                    try:
                        super().print(*objects, **options)
                    except BrokenPipeError:  # of older versions of rich
                        app.unread()

                def on_broken_pipe(self) -> None:
                    app.unread()

            known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
            width = None if known else COLUMNS_UNKNOWN
            self._console = Output(highlight=False, markup=False, emoji=False, width=width)
        return self._console

    def say(self, text: str = "", style: str = "") -> None:
        """One line for people, broken by the terminal only (so it can be copied); silent with --json."""
        if not self.json:
            self.console.print(text, style=style or None, soft_wrap=True)

    def emit(self, value: Any, name: str = "") -> None:
        """One JSON document. `name`: of its schema, when it is not that of the command."""
        text = msgspec.json.format(msgspec.json.encode(_named(value, name)), indent=2).decode()
        try:
            click.echo(text)
        except BrokenPipeError:
            self.unread()

    def emit_line(self, value: Any, name: str = "") -> None:
        """One JSON document in one line, at once: for streams."""
        click.echo(msgspec.json.encode(_named(value, name)).decode())
        sys.stdout.flush()

    def unread(self) -> None:
        """The reader of our output has left. An order goes on all the same; anything else ends without a word."""
        silence(sys.stdout)
        if not self.order:
            raise SystemExit(int(Exit.FAILED))
        try:
            click.echo("hamailctl: nobody reads the output any more; the order is carried out all the same", err=True)
        except BrokenPipeError:
            silence(sys.stderr)

    def end(self, code: Exit, error: str, reasons: Sequence[str] = (), request: str = "", hint: str = "") -> NoReturn:
        """Say what went wrong, why and what to do, and leave."""
        if self.json:
            body = {"error": error, "reasons": list(reasons), "request": request, "exit_code": int(code)}
            self.emit(body, "error")
        else:
            click.echo(click.style(f"hamailctl: {error}", fg="red", bold=True), err=True)
            for reason in reasons:
                click.echo(f"  - {reason}", err=True)
            if hint:
                click.echo(hint, err=True)
        raise SystemExit(int(code))

    def confirm(self, question: str, yes: bool) -> None:
        if yes:
            return
        try:
            agreed = click.confirm(question, err=True)
        except click.Abort:
            click.echo(err=True)
            self.end(Exit.USAGE, "nobody answered, so nothing was done; add --yes to go ahead without a question")
        if not agreed:
            self.end(Exit.NOT_DONE, "nothing was done, as you wish")


def silence(stream: IO[str]) -> None:
    """Whose reader has left. Not even the interpreter may write to the old pipe at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _named(value: Any, name: str) -> dict[str, Any]:
    """Every document says first what it is: "hamail/config-show/1"."""
    context = click.get_current_context(silent=True)
    words = context.command_path.split()[1:] if context is not None else []
    body = {**msgspec.to_builtins(value)}
    known = body.pop("schema", JSON_SCHEMA)
    version = known if isinstance(known, int) else JSON_SCHEMA
    schema = known if isinstance(known, str) else f"hamail/{name or '-'.join(words)}/{version}"
    return {"schema": schema, **body}


pass_app = click.make_pass_decorator(App)


def json_option(command: F) -> F:
    def switch_on(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(App).json = True

    option = click.option(
        "--json", is_flag=True, expose_value=False, callback=switch_on, is_eager=True, help="For programs."
    )
    return option(command)


def order_options(command: F) -> F:
    """What every command that changes something takes."""

    def is_order(context: click.Context, _: click.Parameter, value: str) -> str:
        context.ensure_object(App).order = True
        return value

    command = click.option(
        "--request",
        metavar="ID",
        default="",
        callback=is_order,
        help="Id of an earlier try; sending it again is safe.",
    )(command)
    return click.option("--reason", metavar="TEXT", default="", help="Kept in the history.")(command)


yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def examples(*lines: str) -> str:
    return "\b\n" + "\n".join(["Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)])


def end_with(app: App, error: "ControlError") -> NoReturn:
    """Turn an error of the client into words and an exit code."""
    from hamail.control.client import Invalid, OutcomeUnknown, Refused, SurelyNotDone

    if isinstance(error, OutcomeUnknown):
        hint = (
            f"It may or may not take effect (request {error.request}). See what happened: hamailctl status\n"
            f"Ask again safely: {again(app, error.request)}"
        )
        app.end(Exit.UNKNOWN, f"outcome unknown: {error.error}", error.reasons, error.request, hint)
    codes = {Refused: Exit.REFUSED, SurelyNotDone: Exit.NOT_DONE, Invalid: Exit.USAGE}
    code = next((code for kind, code in codes.items() if isinstance(error, kind)), Exit.FAILED)
    app.end(code, error.error, error.reasons, error.request)


def again(app: App, request: str) -> str:
    """This very command line, as a retry of `request`."""
    words: list[str] = []
    skip = False
    for word in app.words:
        if skip or word == "--request":
            skip = word == "--request"
        elif not word.startswith("--request="):
            words.append(word)
    return shlex.join(["hamailctl", *words, "--request", request])


class DurationMs(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """ "300ms", "1.5s", "2m" -> milliseconds."""

    name = "duration"

    def __init__(self, *, above_zero: bool = False) -> None:
        self._above_zero = above_zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from hamail.config.duration import parse_duration

        try:
            found = value if isinstance(value, int) else parse_duration(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error
        if self._above_zero and not found and not isinstance(value, int):
            raise click.BadParameter(f"{value!r} would be over at once", ctx, param)
        return found
