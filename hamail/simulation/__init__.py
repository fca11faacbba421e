"""Whole clusters in one process under a virtual clock."""
