"""Pages in headless Chromium, at several widths in one process, and what a reader would trip over there."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BROWSER = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--virtual-time-budget=60000",
)  # fmt: skip
AXE = Path(sysconfig.get_path("purelib")) / "axe_core_python" / "axe.min.js"
WIDTHS = (390, 800, 1400)  # of a phone, a tablet and a desk
HIGH = 3000  # so much of a page is in its picture
MOST_BYTES = 2_900_000  # of a page
PICTURE = "picture.png"
UNFOLD = "for (const folded of document.querySelectorAll('details')) folded.open = true;"
ASK = """
window.asked = new Promise((done) => addEventListener("load", () => setTimeout(async () => {
  const found = await axe.run(document, { resultTypes: ["violations", "incomplete"] });
  done(found.violations.map((v) => v.id + ": " + v.nodes.slice(0, 4).map((n) => n.html.slice(0, 160)).join(" ")));
}, 500)));
"""
WATCH = """<script>
window.found = [];
window.addEventListener("error", (e) => window.found.push(String(e.message || e.target.tagName)), true);
document.addEventListener("securitypolicyviolation", (e) => window.found.push("policy: " + e.violatedDirective));
for (const kind of ["error", "warn"]) {
  const say = console[kind];
  console[kind] = (...words) => { window.found.push(words.join(" ")); say.apply(console, words); };
}
</script>"""
# Sent when the page stands: errors, width, texts of a figure that lie over each other, figures not drawn, headings.
LOOK = """<script>
window.addEventListener("load", () => setTimeout(async () => {
  for (let k = 0; k < 400 && document.documentElement.dataset.ready !== "yes"; k++) {
    await new Promise((go) => setTimeout(go, 50));
  }
  const asked = await (typeof window.asked === "function" ? window.asked() : window.asked);
  const overlaps = [];
  for (const plot of document.querySelectorAll(".plot")) {
    const texts = [...plot.querySelectorAll("svg text")].filter((t) => t.textContent.trim())
      .map((t) => [t.textContent, t.getBoundingClientRect(), t]).filter(([, box]) => box.width > 0);
    texts.forEach(([one, a, ta], i) => texts.slice(i + 1).forEach(([two, b, tb]) => {
      const turned = (t) => /rotate\\((?!-?90|0)/.test(t.getAttribute("transform") || "");
      if (turned(ta) || turned(tb)) return;
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 2 && high > 4) overlaps.push(plot.id + ": " + one + " / " + two);
    }));
    const box = plot.getBoundingClientRect();
    for (const [text, r] of texts) {
      const cut = r.left < box.left - 2 || r.right > box.right + 2 || r.bottom > box.bottom + 2;
      if (cut) overlaps.push(plot.id + " cut: " + text);
    }
  }
  const empty = [...document.querySelectorAll(".plot")].filter((plot) => !(plot.calcdata || []).some((trace) =>
    trace.some((at) => at.z || [at.x, at.y, at.p].some((value) => typeof value === "number" && isFinite(value)))));
  const clipped = [...document.querySelectorAll("main *")].filter((e) => !e.closest(".scroll, svg, .plot, .unseen, nav")
    && getComputedStyle(e).overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1);
  const outside = [...document.querySelectorAll("main *")].filter((e) => !e.closest(".scroll, svg, .plot, .unseen")
    && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((e) => e.outerHTML.slice(0, 80));
  parent.postMessage(JSON.stringify({
    width: window.innerWidth, room: document.documentElement.clientWidth,
    empty: empty.map((plot) => plot.id), clipped: clipped.map((e) => e.outerHTML.slice(0, 80)),
    content: document.documentElement.scrollWidth, errors: window.found, overlaps, outside,
    plots: document.querySelectorAll(".plot").length,
    drawn: [...document.querySelectorAll('.plot[data-drawn="yes"]')].filter((p) => p.querySelector(".main-svg")).length,
    headings: [...document.querySelectorAll("h1,h2,h3,h4")].map((h) => Number(h.tagName[1])),
    unnamed: [...document.querySelectorAll("table")].filter((t) => !t.caption || !t.caption.textContent).length
      + [...document.querySelectorAll(".plot:not([aria-label]), img:not([alt]), button:empty, a:empty")].length,
    injected: document.querySelectorAll("[onerror]").length, asked,
  }), "*");
}, 1500));
</script>"""


def look(
    page: str,
    folder: Path,
    *,
    dark: bool,
    widths: tuple[int, ...] = (400, 800, 1400),
    also: str = "",
    height: int = 900,
) -> list[Any]:
    """What stands on a page at each width; ``picture.png`` of the folder shows them side by side.

    Args:
        also: a script that runs in the page before it is looked at; what it puts into ``window.asked``, what that
            promises, or gives when it is called once the page is ready, comes back.
    """
    text = page.replace("<head>", f"<head>{WATCH}", 1).replace("</body>", f"<script>{also}</script>{LOOK}</body>", 1)
    (folder / "page.html").write_text(text, encoding="utf-8")
    frames = "".join(
        f'<iframe src="page.html" style="width:{w}px;height:{height}px;border:0"></iframe>' for w in widths
    )
    listen = (
        "<script>addEventListener('message', (e) => {"
        "const pre = document.createElement('pre'); pre.textContent = e.data; document.body.append(pre); });</script>"
    )
    row = "margin:0;white-space:nowrap;font-size:0"
    (folder / "frames.html").write_text(
        f"<!doctype html><meta charset=utf-8><body style='{row}'>{listen}{frames}", encoding="utf-8"
    )
    assert BROWSER is not None
    scheme = f"--blink-settings=preferredColorScheme={'0' if dark else '1'}"
    picture = [f"--window-size={sum(widths)},{height}", f"--screenshot={folder / PICTURE}"]
    command = [BROWSER, *QUIET, scheme, *picture, f"--user-data-dir={folder / 'profile'}"]
    place = (folder / "frames.html").as_uri()
    done = subprocess.run([*command, "--dump-dom", place], capture_output=True, timeout=400, check=True, text=True)
    found = re.findall(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    return sorted((json.loads(html.unescape(one)) for one in found), key=lambda one: int(one["width"]))


def faults(page: str, folder: Path, *, dark: bool, plots: int | None = None) -> list[str]:
    """What is wrong with a page, in words, on a phone, a tablet and a desk: too large, wider than the screen, cut or
    clipped text, an empty axis, a figure that is not drawn, an error, or a picture without anything on it.

    Args:
        plots: how many figures it has; None: any number.
    """
    found = [] if len(page.encode()) <= MOST_BYTES else [f"{len(page.encode()):,} bytes"]
    seen = look(page, folder, dark=dark, widths=WIDTHS, also=UNFOLD, height=HIGH)
    found += [f"looked at {[one['width'] for one in seen]}"] if len(seen) != len(WIDTHS) else []
    for one in seen:
        wide = one["content"] > one["room"]
        said = [*(["wider than the screen"] if wide else []), *(["tables without names"] if one["unnamed"] else [])]
        said += [f"{one['drawn']} of {one['plots']} figures drawn"] if one["drawn"] != one["plots"] else []
        said += [f"{one['plots']} figures"] if plots not in (None, one["plots"]) else []
        for name in ("errors", "overlaps", "outside", "clipped", "empty"):
            said += [f"{name}: {what}" for what in one[name]]
        found += [f"{one['width']} px: {words}" for words in said]
    with Image.open(folder / PICTURE) as picture:
        grey = np.asarray(picture.convert("L"), float)
    for left, width in zip(np.cumsum((0, *WIDTHS[:-1])), WIDTHS, strict=True):
        part = grey[:, left : left + width]
        ground = float(np.median(part))
        if part.std() < 3.0 or (ground < 128) != dark:
            found.append(f"{width} px: a picture of grey {ground:.0f} ± {part.std():.1f}")
    return found


def violations(page: str, folder: Path, *, dark: bool, widths: tuple[int, ...] = (800,)) -> list[str]:
    """What axe-core finds on a page, everything unfolded: "400 px: color-contrast: p.note, …"."""
    script = AXE.read_text("utf-8").replace("</script", "<\\/script")
    found = look(
        page, folder, dark=dark, widths=widths, also=f"{UNFOLD}</script><script>{script}</script><script>{ASK}"
    )
    return [f"{one['width']} px: {words}" for one in found for words in one["asked"]]
