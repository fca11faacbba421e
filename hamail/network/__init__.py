"""Addresses over netlink, gratuitous ARP and unsolicited neighbour advertisements, conflict detection."""
