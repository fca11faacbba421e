"""Configuration files: read, checked, compared."""

from hamail.config.advice import warnings
from hamail.config.difference import diff
from hamail.config.load import load_cluster, load_node, parse_cluster
from hamail.config.node import NodeConfig
from hamail.config.problem import ConfigError, Problem

__all__ = [
    "ConfigError",
    "NodeConfig",
    "Problem",
    "diff",
    "load_cluster",
    "load_node",
    "parse_cluster",
    "warnings",
]
