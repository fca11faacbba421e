"""`hamailctl metrics`: what Prometheus is to know, printed, or as the file that its node exporter reads."""

from pathlib import Path

import click

from hamail.cli.app import App, Exit, examples, pass_app


@click.command(
    short_help="What Prometheus is to know.",
    epilog=examples("hamailctl metrics | grep hamail_alert", "hamailctl metrics --file /run/hamail.prom"),
)
@click.option("--file", type=click.Path(path_type=Path), help="Replace this file, at once and whole.")
@pass_app
def metrics(app: App, file: Path | None) -> None:
    """Print the state of the cluster as this node sees it, in the text format of Prometheus.

    hamaild listens on no port for this. hamail-metrics.timer writes the file for the textfile collector of the node
    exporter, where there is one: systemctl enable --now hamail-metrics.timer. When hamaild does not answer, all that
    the file says is hamail_up 0.
    """
    from hamail.control.client import ControlError
    from hamail.monitoring.metrics import up

    if file is None:
        click.echo(app.client.metrics(), nl=False)
        return
    try:
        text = app.client.metrics()
    except ControlError:
        _replace(app, file, up(False))
        raise
    _replace(app, file, text)


def _replace(app: App, file: Path, text: str) -> None:
    from hamail.disk import RealDisk, write_whole

    try:
        write_whole(RealDisk(), file, text.encode(), mode=0o644, durable=False)
    except OSError as error:
        app.end(Exit.FAILED, f"{file}: {error.strerror or error}")


COMMANDS = (metrics,)
