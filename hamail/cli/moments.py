"""A moment as people write it: local time, with or without the date."""

from datetime import datetime, timedelta
from typing import Any

import click

EXPECTED = 'write it as "2026-11-24 03:00", or 03:00 for the next time it is three o\'clock'


def parse_moment(text: str, now: datetime) -> datetime:
    """`now` is aware; a moment without a zone is local time. Raises ValueError with what is expected."""
    words = text.strip()
    try:
        if len(words) <= len("03:00:00"):
            time = datetime.strptime(words, "%H:%M:%S" if words.count(":") == 2 else "%H:%M").time()
            today = datetime.combine(now.date(), time).astimezone()
            return today if today > now else datetime.combine(now.date() + timedelta(days=1), time).astimezone()
        found = datetime.fromisoformat(words)
    except ValueError as error:
        raise ValueError(f"{text!r} is no moment; {EXPECTED}") from error
    if len(words) <= len("2026-11-24"):
        raise ValueError(f"{text!r} has no time of day; {EXPECTED}")
    found = found.astimezone()
    if found <= now:
        raise ValueError(f"{text!r} has passed already")
    return found


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """ "2026-11-24 03:00" -> milliseconds since 1970."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            found = parse_moment(value, datetime.now().astimezone())
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error
        return int(found.timestamp() * 1000)
