"""The shell of a self-contained page: Plotly is inlined once; its policy forbids loading anything else."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from hil.pages.figures import Figure
from hil.pages.tables import Table

# 'unsafe-inline' is this file itself; nothing else is allowed, so the page works offline and tells nobody.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def document(title: str, sections: Sequence[str], drawn: Mapping[str, Figure]) -> str:
    """The whole page as text (about 5 MB, nearly all of it Plotly); figure x goes into the element ``plot-x``."""
    content = json.dumps(drawn, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")  # no markup in a script
    return "\n".join(
        (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<style>{_asset('page.css')}</style></head><body><main>",
            *sections,
            f'</main><script type="application/json" id="figures">{content}</script>',
            f"<script>{_plotly()}</script>",
            f"<script>{_asset('page.js')}</script></body></html>\n",
        )
    )


def columns(*content: str) -> str:
    return f'<div class="columns">{"".join(content)}</div>'


def section(title: str, *content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(content)}</section>"


def table(content: Table) -> str:
    named = any(content.header)
    head = f"<thead><tr>{''.join(f'<th>{escape(h)}</th>' for h in content.header)}</tr></thead>" if named else ""
    body = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in content.rows
    )
    note = f'<p class="note">{escape(content.note)}</p>' if content.note else ""
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>{note}'


@functools.cache
def _plotly() -> str:
    """plotly.js of the installed package, safe inside a script element."""
    script = resources.files("plotly").joinpath("package_data/plotly.min.js").read_text("utf-8")
    return script.replace("</script", "<\\/script")


def _asset(name: str) -> str:
    return resources.files("hil.pages").joinpath(name).read_text("utf-8")
