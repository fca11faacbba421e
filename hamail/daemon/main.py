"""hamaild: one per node, as user hamail, with no privileges."""

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import click
import structlog

from hamail import __version__
from hamail.config import ConfigError, load_cluster, load_node
from hamail.config.local import check_local, check_node, local_interfaces
from hamail.config.node import NodeConfig
from hamail.consensus.journal import JournalError, initialise
from hamail.daemon import protocols
from hamail.daemon.daemon import Daemon
from hamail.executor.secrecy import forbid_core_dumps
from hamail.model.spec import ClusterSpec
from hamail.transport.certificates import CertificateError, Certificates, server_context

EXIT_CONFIG = 78  # EX_CONFIG: systemd does not restart the unit

log = structlog.get_logger("hamail")


def logging_to_stderr(level: str) -> None:
    """One line an event; the journal adds the time where there is one."""
    timestamp = [] if sys.stderr.isatty() is False else [structlog.processors.TimeStamper(fmt="%H:%M:%S")]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *timestamp,
            structlog.processors.LogfmtRenderer(key_order=["level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def fail(sentence: str) -> NoReturn:
    click.echo(f"hamaild: {sentence}", err=True)
    raise SystemExit(EXIT_CONFIG)


def become_owner(folder: Path) -> None:
    """Root makes the journal as the user to whom the state directory belongs: hamaild could not use root's files."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


async def _serve(node: NodeConfig, spec: ClusterSpec, source: str) -> None:
    protocols.leave(node.run_dir)
    await Daemon(node, spec, source).run()


@click.command()
@click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/hamail/node.toml"),
    show_default=True,
    help="This node's own configuration file.",
)
@click.option(
    "--initialise", "fresh", is_flag=True, help="First set-up of this node: make an empty journal, then exit."
)
@click.option(
    "--replaced-disk",
    is_flag=True,
    help="With --initialise: this node was a member and has lost its disk. It votes again when it has caught up.",
)
@click.option("--check", is_flag=True, help="Read configuration and certificates as at a start, then exit.")
@click.version_option(__version__)
def main(config: Path, fresh: bool, replaced_disk: bool, check: bool) -> None:
    """The hamail daemon: consensus, leases, decisions, control API.

    \b
    Examples:
      hamaild --initialise        once, when the node is set up
      hamaild                     as the service does
    """
    try:
        node = load_node(config)
        spec, source = load_cluster(node.cluster_file)
    except ConfigError as e:
        fail("\n".join(map(str, e.problems)))
    if problems := check_node(spec, node):
        fail("\n".join(f"{config}: {p}" for p in problems))
    logging_to_stderr(node.log_level)
    forbid_core_dumps()  # its private key will be in its memory
    if fresh:
        try:
            become_owner(node.state_dir)
            initialise(node.state_dir / "log", spec.name, node.node, replaced_disk=replaced_disk)
        except (JournalError, OSError) as e:
            fail(str(e))
        click.echo(f"{node.state_dir}: an empty journal for {node.node} in cluster {spec.name} is ready")
        return
    if check:
        try:
            server_context(Certificates.of(node.certificates))
        except CertificateError as e:
            fail(str(e))
        return
    for problem in check_local(spec, local_interfaces(), node.node):
        log.warning("this machine does not fit the configuration", place=problem.place, why=problem.reason)
    try:
        asyncio.run(_serve(node, spec, source))
    except (CertificateError, ValueError, LookupError) as e:
        fail(str(e))
    except OSError as e:
        click.echo(f"hamaild: {e}", err=True)
        raise SystemExit(1) from e  # an address that is not there yet, say: systemd tries again


if __name__ == "__main__":
    main()
