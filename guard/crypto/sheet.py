"""A recovery share as a sheet to print: an HTML page with the share as text and as QR code, and what it is for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from uuid import UUID

import segno

from guard.crypto import files, shares
from guard.crypto.recovery import Kit

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>guard recovery share {number} of kit {kit}</title>
<style>
@page {{ margin: 20mm }}
body {{ font: 12pt/1.5 sans-serif; max-width: 160mm; margin: 0 auto; color: #000; background: #fff }}
h1 {{ font-size: 20pt; margin-bottom: 0 }}
pre {{ font: bold 13pt/1.6 monospace; border: 1.5pt solid; padding: 4mm; white-space: pre-wrap; word-break: break-all }}
table {{ border-spacing: 0 }} th {{ text-align: left; font-weight: normal; padding-right: 8mm; color: #333 }}
svg {{ width: 55mm; height: 55mm; display: block; margin: 6mm 0 }}
</style>
</head>
<body>
<h1>Recovery share {number} of 3</h1>
<table>
<tr><th>Kit</th><td>{kit}</td></tr>
<tr><th>Shop</th><td>{shop}</td></tr>
<tr><th>Store</th><td>{store}</td></tr>
<tr><th>Made</th><td>{made} UTC</td></tr>
</table>
<pre>
{share}
</pre>
{code}
<p>Any two of the three shares open every key of this store: the shop's sealed data, and its backups. One alone says
nothing. Keep each with another person or in another place, and none on the machine where guard runs.</p>
<p>With two shares, when the root key is lost: <code>guard keys recovery use</code>. When guard's own database is lost:
<code>guard state restore</code>. Once a year, to be sure that they still do: <code>guard keys recovery test</code>.
Type the share as printed; small letters and spaces do not matter. The square holds the same text.</p>
<p>Given to: ______________________________ &nbsp; on: ______________</p>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose kit it is: what a person reads on the sheet in ten years."""

    shop: str
    store_id: UUID
    made_at: datetime


def page(kit: str, number: int, share: str, owner: Owner) -> str:
    """Return the HTML page of a share. It loads nothing from anywhere."""
    code = segno.make(share.upper(), micro=False, error="q")  # capitals make a smaller square; q mends a quarter
    return _PAGE.format(
        kit=kit,
        number=number,
        share=share,
        shop=escape(owner.shop),
        store=owner.store_id,
        made=f"{owner.made_at:%Y-%m-%d %H:%M}",
        code=code.svg_inline(border=2, omitsize=True),
    )


def write_sheets(kit: Kit, folder: Path, owner: Owner) -> tuple[Path, ...]:
    """Write the three shares as pages to three new files of mode 0600 in `folder`, and return them.

    Raises ConfigError when the folder is missing or cannot be written, InterlockError when one of the files exists.
    """
    paths = tuple(folder / f"guard-share-{kit.id}-{number}.html" for number in shares.NUMBERS)
    for path, number, share in zip(paths, shares.NUMBERS, kit.shares, strict=True):
        files.write_new(path, page(kit.id, number, share, owner))
    return paths
