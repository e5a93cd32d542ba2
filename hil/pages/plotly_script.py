"""plotly.js as the text of a script element: the cartesian bundle where it lies here, else the whole one."""

from __future__ import annotations

import functools
from importlib import resources

BUNDLE = "plotly-cartesian.min.js"


@functools.cache
def plotly_script() -> str:
    """plotly.js, safe inside a script element: the bundle beside this file, or that of the Python package."""
    folder = resources.files("hil.pages").joinpath(BUNDLE)
    whole = resources.files("plotly").joinpath("package_data/plotly.min.js")
    return (folder if has_bundle() else whole).read_text("utf-8").replace("</script", "<\\/script")


def has_bundle() -> bool:
    """Whether pages hold the cartesian bundle, which ``make plotly`` fetches, and not the whole of plotly.js."""
    return resources.files("hil.pages").joinpath(BUNDLE).is_file()
