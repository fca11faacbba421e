"""Looks at the machine it runs on, as root, for `hamailctl doctor`. Started by the executor, or by hamailctl itself."""
