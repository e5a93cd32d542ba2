"""The shell of a self-contained page: Plotly is inlined once; its policy forbids loading anything else."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Mapping, Sequence
from html import escape
from importlib import resources

from hil.pages.figures import Figure
from hil.pages.tables import Table

# 'unsafe-inline' is this file itself; nothing else is allowed, so the page works offline and tells nobody.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

BUNDLE = "plotly-cartesian.min.js"
SHORT = ' class="short"'  # a cell that is not wrapped


def document(title: str, sections: Sequence[str], drawn: Mapping[str, Figure]) -> str:
    """The whole page as text, nearly all of it Plotly; figure x goes into the element ``plot-x``."""
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


def contents(titles: Sequence[str]) -> str:
    """Links to the sections of these titles."""
    links = "".join(f'<li><a href="#{anchor(title)}">{escape(title)}</a></li>' for title in titles)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def anchor(title: str) -> str:
    """The address of a section within its page: "Link and time" -> "link-and-time"."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def section(title: str, *content: str) -> str:
    name = anchor(title)
    head = f'<h2 id="{name}">{escape(title)}</h2>'
    return f'<section aria-labelledby="{name}">{head}{"".join(content)}</section>'


def folded(title: str, *content: str) -> str:
    """Content behind its title, opened by a click or a key."""
    return f"<details><summary>{escape(title)}</summary>{''.join(content)}</details>"


def plot(drawn: dict[str, Figure], name: str, caption: str, drawing: Figure) -> str:
    """The place of a figure, which is put into ``drawn``; its caption is its text for screen readers too.

    A figure with ``wide`` keeps the width that its words need on a narrow screen, and scrolls in its own box.
    """
    drawn[name] = drawing
    wide = drawing.pop("wide", False)
    if (reduced := drawing.pop("reduced", 1)) > 1:
        caption = f"{caption} One point stands for {reduced} × {reduced} cells."
    label = f'role="img" aria-label="{escape(caption)}"'
    place = f'<div id="plot-{name}" class="plot{" wide" if wide else ""}" {label}></div>'
    if wide:
        place = _scrolled(caption, place)
    return f"<figure>{place}<figcaption>{escape(caption)}</figcaption></figure>"


def table(content: Table, marked: Collection[str] = ()) -> str:
    """A table in a box that scrolls where it is too wide.

    Args:
        marked: first cells of rows that are set off from the others.
    """
    heads = "".join(f'<th scope="col">{escape(h)}</th>' if h else "<td></td>" for h in content.header)
    head = f"<thead><tr>{heads}</tr></thead>" if any(content.header) else ""
    body = "".join(_row(row, row[0] in marked) for row in content.rows)
    note = f'<p class="note">{escape(content.note)}</p>' if content.note else ""
    caption = f'<caption class="unseen">{escape(content.title)}</caption>'
    return _scrolled(content.title, f"<table>{caption}{head}<tbody>{body}</tbody></table>") + note


def sortable_table(content: Table, rows: Sequence[tuple[str, Sequence[tuple[str, float | str]]]]) -> str:
    """A table that a click or a key on a header sorts, its rows in place of those of ``content``.

    Args:
        rows: address that the first cell leads to, within the folder of the page, and cells with what sorts them.
    """
    heads = "".join(f'<th scope="col"><button type="button">{escape(h)}</button></th>' for h in content.header)
    body = "".join(_sortable_row(address, cells) for address, cells in rows)
    note = f'<p class="note">{escape(content.note)}</p>' if content.note else ""
    caption = f'<caption class="unseen">{escape(content.title)}; buttons in the header sort</caption>'
    whole = f'<table class="sortable">{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
    return _scrolled(content.title, whole) + note


def _sortable_row(address: str, cells: Sequence[tuple[str, float | str]]) -> str:
    (name, first), *others = cells
    link = f'<th scope="row" data-by="{escape(str(first))}"><a href="{escape(address)}">{escape(name)}</a></th>'
    rest = "".join(f'<td class="short" data-by="{escape(str(by))}">{escape(words)}</td>' for words, by in others)
    return f"<tr>{link}{rest}</tr>"


def _row(cells: Sequence[str], marked: bool) -> str:
    start = '<tr class="marked">' if marked else "<tr>"
    rest = "".join(f"<td{SHORT if len(cell) <= 20 else ''}>{escape(cell)}</td>" for cell in cells[1:])
    return f'{start}<th scope="row">{escape(cells[0])}</th>{rest}</tr>'


def _scrolled(label: str, content: str) -> str:
    """A box that scrolls sideways, also by keys."""
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(label)}">{content}</div>'


@functools.cache
def _plotly() -> str:
    """plotly.js, safe inside a script element: the cartesian bundle if it lies here, or the full one of the package."""
    whole = resources.files("plotly").joinpath("package_data/plotly.min.js")
    script = _asset(BUNDLE) if has_bundle() else whole.read_text("utf-8")
    return script.replace("</script", "<\\/script")


def has_bundle() -> bool:
    """Whether pages hold the cartesian bundle, which ``make plotly`` fetches, and not the whole of plotly.js."""
    return resources.files("hil.pages").joinpath(BUNDLE).is_file()


def _asset(name: str) -> str:
    return resources.files("hil.pages").joinpath(name).read_text("utf-8")
