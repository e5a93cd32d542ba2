"""Still picture of a terminal as an SVG: what was typed, and what was printed.

    (echo '$ hil deploy demo:residual --emulated'; hil deploy demo:residual --emulated) > run.txt
    python docs/recording.py run.txt …        # writes docs/images/session.svg

Nothing is invented: each file begins with the command as it was typed, and goes on with what it printed.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parent / "images" / "session.svg"
WIDTH, LINE_PX, CHARACTER_PX, MARGIN_PX = 82, 17, 7.8, 14
MARKS = {"$": "#212529", "✔": "#2f9e44", "✘": "#e03131", "?": "#f08c00"}


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = [row for name in sys.argv[1:] for row in (*Path(name).read_text("utf-8").rstrip("\n").splitlines(), "")]
    height = LINE_PX * len(rows) + MARGIN_PX
    width = CHARACTER_PX * WIDTH + 2 * MARGIN_PX
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(rows[0], quote=True)}">',
        "<style>text{font:13px ui-monospace,Menlo,Consolas,monospace;white-space:pre;fill:#212529}</style>",
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#f8f9fa" stroke="#dee2e6"/>',
    ]
    for number, line in enumerate(rows):
        mark = next((colour for sign, colour in MARKS.items() if line.lstrip().startswith(f"{sign} ")), "")
        style = f' style="fill:{mark};font-weight:bold"' if mark else ""
        place = f'x="{MARGIN_PX}" y="{MARGIN_PX + LINE_PX * (number + 0.75):g}"'
        lines.append(f'<text {place}{style} xml:space="preserve">{escape(line)}</text>')
    PICTURE.write_text("\n".join([*lines, "</svg>"]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
