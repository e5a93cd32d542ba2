"""The command that lists what can be done to a network on a chip: ``hil techniques``."""

from __future__ import annotations

from typing import Any

from hil.cli.options import Json, print_result
from hil.deployment.options import USUAL_RECIPE
from hil.errors import ExitCode
from mapping.recipe.registry import techniques as installed
from mapping.recipe.technique import Technique, settings_of, short


def techniques(as_json: Json = False) -> int:
    """List what can be done to a network on a chip, in the order in which it is done."""
    usual = {t.name for t in USUAL_RECIPE.techniques}
    lines, found = [], []
    for name, kind in installed().items():
        when = "by default" if name in usual else "on request"
        lines.append(f"{name:<10} {when:<16} {kind.words}")
        lines += [f"{'':<27} {line}" for line in _setting_lines(kind)]
        rest = [*(f"excludes {other}" for other in kind.excludes), *(f"builds on {other}" for other in kind.needs)]
        lines += [f"{'':<27} {', '.join(rest)}"] if rest else []
        found.append(_to_json(name, kind, name in usual))
    print_result(lines, {"techniques": found}, as_json)
    return ExitCode.DONE


def _setting_lines(kind: type[Technique]) -> list[str]:
    return [
        f"{short(f)}={f.default:g}{'s' if f.metadata['unit'] == 's' else ''}: {f.metadata['words']}"
        for f in settings_of(kind)
    ]


def _to_json(name: str, kind: type[Technique], usual: bool) -> dict[str, Any]:
    settings = [
        {"name": short(f), "default": f.default, **{k: f.metadata[k] for k in ("words", "unit", "low", "high")}}
        for f in settings_of(kind)
    ]
    return {
        "name": name,
        "words": kind.words,
        "by_default": usual,
        "settings": settings,
        "excludes": list(kind.excludes),
        "needs": list(kind.needs),
    }
