"""Recording of a terminal as an SVG that plays by itself: what was typed, and what was printed.

    (echo '$ hil deploy r20.pt --emulated --data cifar10'; hil deploy r20.pt --emulated --data cifar10) > run.txt
    python docs/recording.py run.txt …        # writes docs/images/session.svg

Nothing is invented: each file begins with the command as it was typed, and goes on with what it printed. A command
appears letter by letter, what it printed a moment later; how long it took stands beside it where the file says so
(a last line ``# 521 s``).
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parent / "images" / "session.svg"
WIDTH, LINE_PX, CHARACTER_PX, MARGIN_PX = 88, 17, 7.8, 14
TYPED_S, READ_S = 1.6, 3.0  # for a command, and between two
MARKS = {"✔": "#2f9e44", "✘": "#e03131", "?": "#f08c00"}


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows, begin_s = [], 0.3
    for name in sys.argv[1:]:
        command, *printed = Path(name).read_text("utf-8").rstrip("\n").splitlines()
        took = printed.pop().removeprefix("# ") if printed[-1].startswith("# ") else ""
        rows.append((command, begin_s, "typed"))
        begin_s += TYPED_S
        rows += [(line, begin_s, "") for line in printed]
        rows.append((f"  ({took})" if took else "", begin_s, "dim"))
        begin_s += READ_S
    height = LINE_PX * len(rows) + 2 * MARGIN_PX
    width = CHARACTER_PX * WIDTH + 2 * MARGIN_PX
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(rows[0][0], quote=True)}">',
        "<style>",
        "text{font:13px ui-monospace,Menlo,Consolas,monospace;white-space:pre;fill:#212529;opacity:0;"
        "animation:show .01s linear forwards}.dim{fill:#868e96}.typed{font-weight:bold}",
        "@keyframes show{to{opacity:1}}@media(prefers-reduced-motion:reduce){text{animation-delay:0s!important}}",
        "</style>",
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#f8f9fa" stroke="#dee2e6"/>',
    ]
    for number, (line, at_s, kind) in enumerate(rows):
        place = f'x="{MARGIN_PX}" y="{MARGIN_PX + LINE_PX * (number + 0.75):g}"'
        mark = next((colour for sign, colour in MARKS.items() if line.lstrip().startswith(f"{sign} ")), "")
        style = f"animation-delay:{at_s:g}s" + (f";fill:{mark};font-weight:bold" if mark else "")
        of = f' class="{kind}"' if kind else ""
        lines.append(f'<text{of} {place} style="{style}" xml:space="preserve">{escape(line)}</text>')
    PICTURE.write_text("\n".join([*lines, "</svg>"]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
