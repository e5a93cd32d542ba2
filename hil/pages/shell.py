"""Every page: the account of a result as one self-contained HTML file; texts are escaped, nothing is loaded."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import asdict
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hil.pages.account import Account, Plot
from hil.pages.scripts import packed, plotly


def _anchor(title: str) -> str:
    """Address of a section within its page: "Link and time" -> "link-and-time"."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def page(account: Account, *, again_s: float = 0.0) -> str:
    """An account as a whole page, HTML; most of its bytes are plotly.js.

    Args:
        again_s: seconds after which a browser reloads the page; 0: never.
    """
    summary, banners = account.first, account.banners
    shown = [section for section in account.sections if section.tagged]
    drawn = {
        part.name: {k: v for k, v in part.drawing.items() if k not in ("wide", "reduced")}
        for section in shown
        for part in section.parts
        if isinstance(part, Plot)
    }
    if banners is None:
        mark, _, words = summary.mark.partition(" · ")
        banners = ((mark, _sentence(words) if words else ""),) if mark else ()
    return (
        _environment()
        .get_template("page.html")
        .render(
            summary=summary,
            sections=shown,
            title=account.title or summary.title,
            subtitle=account.subtitle,
            banners=banners,
            again_s=again_s,
            style=Markup(_asset("page.css")),
            script=Markup(_asset("page.js")),
            library=plotly,
            figures=drawn,
        )
    )


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hil.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "sentence": _sentence,
        "anchor": _anchor,
        "capitalised": _capitalised,
        "in_script": _in_script,
        "packed": packed,
    }
    return environment


def _in_script(value: Any) -> Markup:
    """JSON of plain values and dataclasses, with nothing in it that a script element would take for markup."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=asdict)
    return Markup(text.replace("<", "\\u003c"))


def _sentence(text: str) -> str:
    return f"{_capitalised(text)}."


def _capitalised(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _asset(name: str) -> str:
    return resources.files("hil.pages").joinpath(name).read_text("utf-8")
