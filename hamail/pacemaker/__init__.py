"""Reads the configuration of a Pacemaker cluster, writes one for hamail, and lists what could not come along."""
