"""Times as people write them on the command line."""

from datetime import UTC, datetime

import click

from guard.clock import parse


class Time(click.ParamType[datetime]):
    """A day in UTC, or a time with its offset."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time in UTC; anything else ends the command and says how to write one."""
        text = str(value)
        try:
            return parse(text) if len(text) > len("2026-11-22") else datetime.fromisoformat(text).replace(tzinfo=UTC)
        except ValueError:
            self.fail("write a day as 2026-11-22 (UTC) or a time as 2026-11-22T17:30:00Z", param, ctx)
