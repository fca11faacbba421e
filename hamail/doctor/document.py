# ruff: noqa: E501 - lines of Markdown
"""docs/doctor.md, from the checks themselves: `python -m hamail.doctor.document >docs/doctor.md`."""

import sys

from hamail.doctor.areas import TITLES
from hamail.doctor.checks import CHECKS

HEAD = """\
# Doctor

`hamailctl doctor` looks for everything that bites later: on every node, in the configuration, and in DNS. Each line has a verdict, a
reason, and what to do. Run it after setting up, before a planned move, and from a timer:

```
hamailctl doctor                                  # the running cluster, seen from this node
hamailctl doctor --before-start                   # this machine and cluster.toml, without hamaild
hamailctl doctor --only fence --only storage      # some areas
hamailctl doctor --only dns --domain example.org --nameserver 192.0.2.53
hamailctl doctor --quiet --json                   # for programs: what is not ok
```

| verdict | means |
|---|---|
| ok | looked at, and right |
| warn | works today, and leaves less than it could |
| fail | a failover, or the protection against two active nodes, will not work. Exit code 1 |
| unknown | nobody could tell: a node or a name server is silent, or it is looked at later. Not a failure |

## How the facts are gathered

hamailctl asks the hamaild of this machine, which asks the others through the links that hamail has anyway (mutual TLS). Each node
measures its links (round trip, clocks), and has its executor look at the machine: a request without any argument, a closed set of facts,
in a child process with a time limit. Nothing is older than a few seconds. A node that does not answer, or runs another version of
hamail, is unknown. No secret leaves a machine: of files that not everybody may read two bytes of a digest are told, enough to see that
two nodes differ; certificates are public; of DKIM keys only the public half. See [security.md](security.md).

The name servers, and the certificates that the floating addresses show, are asked by hamailctl itself. What it cannot find out goes into
`[doctor]` of `/etc/hamail/node.toml`, or is given as an option: `nameserver`, `hostname`, `domains`, `selectors`.

## All checks
"""
TAIL = """
## From Pacemaker

`hamailctl import pacemaker FILE...` reads `pcs config --output-format=json` (or that of `pcs resource`, `pcs stonith`, `pcs stonith level`
and `pcs constraint`, one file each) or a CIB in XML, and writes a commented cluster.toml. `--corosync /etc/corosync/corosync.conf`
brings the nodes' addresses along, `--witness n3=10.0.0.13` names the third voter.

| in Pacemaker | in hamail |
|---|---|
| group, and primitives that must run with it (colocation INFINITY) | one group; each member waits for the one before it |
| mandatory order of starts within it | `after` |
| location with a score for a node | order of `nodes`; -INFINITY leaves the node out |
| ocf:heartbeat:IPaddr2 | hamail:vip |
| ocf:heartbeat:Filesystem (ext4, xfs) | hamail:filesystem; others keep Pacemaker's agent |
| systemd:postfix, ocf:heartbeat:postfix; dovecot alike | hamail:postfix, hamail:dovecot |
| other systemd units | hamail:systemd |
| other OCF agents | as they are, once `[allow]` in node.toml says so |
| migration-threshold, failure-timeout | `restarts` |
| fence devices with pcmk_host_map, pcmk_host_list, fencing levels | `[fencing.NAME]`; passwords go into files |

Clones, promotable clones, bundles, rules, tickets, constraints between groups, and agents of other kinds are not carried over: each is listed
with the reason, in the file and on standard error, and the exit code is then 1. Values that the file cannot tell (addresses, an interface)
are marked `TO DO`. Nothing is changed on any cluster.
"""


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def document() -> str:
    parts = [HEAD]
    for area, title in TITLES.items():
        parts.append(f"\n### {title} (`--only {area}`)\n\n| check | looks at | where it is wrong |\n|---|---|---|")
        parts += [
            f"| `{check.name}` | {cell(check.looks_at)} | {cell(check.bites)} |"
            for check in CHECKS
            if check.area == area
        ]
    return "\n".join(parts) + "\n" + TAIL


if __name__ == "__main__":
    sys.stdout.write(document())
