"""`python -m hamail.pki`: make the cluster's authority, issue certificates, look at them."""

from pathlib import Path

import click

from hamail.pki.authority import AUTHORITY_DAYS, NODE_DAYS, cluster_of, create_authority, issue
from hamail.pki.description import describe
from hamail.pki.files import PkiError

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(help=__doc__)
def cli() -> None:
    pass


@cli.command(name="init")
@click.option("--cluster", required=True, help="Name of the cluster, as in cluster.toml.")
@click.option("--out", required=True, type=FOLDER, help="Folder for ca.pem and ca.key. Keep ca.key off the nodes.")
@click.option("--days", default=AUTHORITY_DAYS, show_default=True, type=click.IntRange(1))
def init_command(cluster: str, out: Path, days: int) -> None:
    """Create the authority of a new cluster."""
    click.echo(f"{create_authority(out, cluster, days=days)}: authority of cluster {cluster}")


@cli.command(name="issue")
@click.option("--authority", required=True, type=FOLDER, help="Folder that `init` has written.")
@click.option("--node", required=True, help="Name of the node, as in cluster.toml.")
@click.option("--out", required=True, type=FOLDER, help="Folder for ca.pem, node.pem and node.key.")
@click.option("--days", default=NODE_DAYS, show_default=True, type=click.IntRange(1))
@click.option("--replace", is_flag=True, help="Renew: write a new key and certificate over the old ones.")
def issue_command(authority: Path, node: str, out: Path, days: int, replace: bool) -> None:
    """Issue a certificate to a node; its private key is made here and belongs on that node only."""
    path = issue(authority, cluster_of(authority), node, out, days=days, replace=replace)
    click.echo(f"{path}: {describe(path).sentence}")


@cli.command(name="show")
@click.argument("certificates", nargs=-1, required=True, type=click.Path(path_type=Path))
def show_command(certificates: tuple[Path, ...]) -> None:
    """Say whose a certificate is and when it expires."""
    for path in certificates:
        click.echo(f"{path}: {describe(path).sentence}")


def main() -> None:
    try:
        cli.main(prog_name="python -m hamail.pki")
    except PkiError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
