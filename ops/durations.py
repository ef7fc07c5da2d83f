"""Times that operators give: `90`, `90s`, `15m`, `2h`, `3d`, `1h30m`."""

import re

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_WHOLE = re.compile(r"(?:\d+[smhdw])+\Z")


class Duration(click.ParamType[float]):
    """A time span; the command gets seconds."""

    name = "T"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Returns the seconds."""
        text = str(value).strip().lower()
        if text.isascii() and text.isdigit():
            seconds = int(text)
        elif _WHOLE.match(text) and text.isascii():
            seconds = sum(
                int(part) * _UNITS[unit] for part, unit in re.findall(r"(\d+)([smhdw])", text)
            )
        else:
            self.fail(f"{text!r} is no time; write it as 90s, 15m, 2h, 3d or 1h30m", param, ctx)
        if seconds < 1:
            self.fail("the time must be at least one second", param, ctx)
        return float(seconds)


DURATION = Duration()
