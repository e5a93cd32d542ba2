"""Picture of a report page for the README, by a headless Chromium.

    hil deploy --emulated
    python docs/report_picture.py runs/0001        # writes docs/images/report.png

The upper part of the page as it stands on a desk, in the light theme, with at most 128 colours.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).parent / "images" / "report.png"
WIDTH_PX, HEIGHT_PX, COLOURS = 1280, 1090, 128
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is installed")
    page = Path(sys.argv[1]).resolve() / "report.html"
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=20000")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        size = f"--window-size={WIDTH_PX},{HEIGHT_PX}"
        command = [browser, *quiet, size, f"--user-data-dir={folder}/profile", f"--screenshot={shot}", page.as_uri()]
        subprocess.run(command, check=True, timeout=300, capture_output=True)
        with Image.open(shot) as image:
            image.convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
