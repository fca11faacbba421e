"""Secrets do not belong into a file that every node keeps and every operator reads."""

import re

_SECRET = re.compile(r"pass(w(or)?d|phrase|code)?$|secret|token|^pw$", re.IGNORECASE)


def looks_secret(parameter: str) -> bool:
    return bool(_SECRET.search(parameter))
