"""A laboratory of real nodes on one machine: two mail servers and a witness, each a Debian with its own systemd, own
network namespace, Postfix and Dovecot; a shared LUN, watchdogs, a power distribution unit, a switch that can break."""
