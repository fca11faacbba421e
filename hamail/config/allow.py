"""`[allow]` of node.toml: what the root executor lets hamaild ask for on this node."""

from msgspec import Struct

from hamail.config.section import Section, wrong_path

AGENTS = ("hamail:*",)
MOUNTS = (
    "/srv",
    "/mnt",
    "/data",
    "/mail",
    "/export",
    "/storage",
    "/vmail",
    "/home/vmail",
    "/var/mail",
    "/var/vmail",
    "/var/spool/mail",
    "/var/spool/postfix",
    "/var/spool/dovecot",
    "/var/lib/dovecot",
    "/var/lib/postgresql",
    "/var/lib/mysql",
)
# What stands around a mail server. Neither the machine's own services nor those that guard it.
UNITS = (
    *("postfix*", "dovecot*", "exim*", "opensmtpd*", "cyrus*", "courier*", "saslauthd*"),
    *("opendkim*", "opendmarc*", "rspamd*", "amavis*", "spamassassin*", "spamd*", "clamav*", "clamd*", "postgrey*"),
    *("*milter*", "policyd*", "postsrsd*", "mailman*", "sympa*", "sogo*", "radicale*", "fetchmail*"),
    *("postgresql*", "mariadb*", "mysql*", "redis*", "valkey*", "memcached*", "slapd*"),
    *("nginx*", "apache2*", "httpd*", "php*-fpm*", "roundcube*"),
)
SECRETS = ("/etc/hamail/secrets",)


class Allow(Struct, frozen=True, kw_only=True):
    """Agents and units are patterns with `*`; mounts and secrets are folders; "*" alone allows everything."""

    agents: tuple[str, ...] = AGENTS
    mounts: tuple[str, ...] = MOUNTS
    units: tuple[str, ...] = UNITS
    secrets: tuple[str, ...] = SECRETS
    fence_parameters: tuple[str, ...] = ()
    drills: bool = False  # may `hamailctl drill` have this node break its own services?


def read_allow(root: Section) -> Allow:
    """What is given comes on top of the defaults. Problems go to the section's list."""
    section = root.table("allow", required=False)
    allow = Allow(
        agents=AGENTS + section.names("agents"),
        mounts=MOUNTS + _folders(section, "mounts"),
        units=UNITS + section.names("units"),
        secrets=SECRETS + _folders(section, "secrets"),
        fence_parameters=section.names("fence_parameters"),
        drills=section.boolean("drills", False),
    )
    section.finish()
    return allow


def _folders(section: Section, key: str) -> tuple[str, ...]:
    folders = section.names(key)
    for folder in folders:
        if folder != "*" and (why := wrong_path(folder)):
            section.problem(key, why)
    return folders
