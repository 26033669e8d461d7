"""Draw a QR code on the terminal, for a phone to scan."""

import sys
from io import StringIO

import click

_WHITE_ON_BLACK = "\x1b[97;40m"
"""Said outright: on a light terminal the code would come out inverted, which many phones cannot read."""

_RESET = "\x1b[0m"


def show_qr(text: str) -> None:
    """Draw `text` as a QR code on stderr in half blocks: about 23 lines for a TOTP secret."""
    for line in qr_lines(text):
        click.echo(f"{_WHITE_ON_BLACK}{line}{_RESET}", err=True, color=sys.stderr.isatty())  # with NO_COLOR too


def qr_lines(text: str) -> list[str]:
    """Return the lines of the QR code of `text`: a block where it is light, a space where it is dark."""
    import segno  # noqa: PLC0415  # only enrolling draws one

    drawn = StringIO()
    segno.make(text, micro=False).terminal(out=drawn, border=2, compact=True)
    return drawn.getvalue().splitlines()
