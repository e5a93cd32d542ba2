"""Fetch Plotly's cartesian bundle by npm, for pages of a checkout (make plotly) and of a wheel (setup.py).

Its digest is checked and its licence comes with it. Without it pages hold the full bundle of the Python package:
three times as large.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE, VERSION = "plotly.js-cartesian-dist-min", "4.1.1"  # that of plotly.js in the Python package
SHA512 = (
    "a3c1ab15ebac9dcc012316c1ca7449a58e29920541e9c68cf892e9c2b2d86dbb"
    "0eedd67c149f9254dd85afe2fb9221bf67ac383f93b426eb3f42be4479f1d57a"
)
PAGES = Path(__file__).parent.parent / "hil" / "pages"
FILES = {
    "package/plotly-cartesian.min.js": "plotly-cartesian.min.js",
    "package/LICENSE": "plotly-cartesian.LICENSE.txt",
}
TIMEOUT_S = 120


class NoBundle(Exception):
    """The bundle could not be had; nothing was written."""


def is_there(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES.values())


def fetch(folder: Path) -> None:
    """Put the bundle and its licence into ``folder``.

    Raises:
        NoBundle: no npm, no network, or another content than expected.
    """
    with tempfile.TemporaryDirectory() as place:
        once = ["--fetch-retries=0", "--fetch-timeout=30000"]
        command = ["npm", "pack", "--silent", *once, f"{PACKAGE}@{VERSION}", "--pack-destination", place]
        try:
            subprocess.run(command, check=True, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        except FileNotFoundError as error:
            raise NoBundle("npm is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise NoBundle(f"npm gave no {PACKAGE} {VERSION} within {TIMEOUT_S} s") from error
        except subprocess.CalledProcessError as error:
            said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
            raise NoBundle(f"npm gave no {PACKAGE} {VERSION}: {said[0] if said else 'no network?'}") from error
        (archive,) = Path(place).glob("*.tgz")
        digest = hashlib.sha512(archive.read_bytes()).hexdigest()
        if digest != SHA512:
            raise NoBundle(f"{PACKAGE} {VERSION} has SHA-512 {digest}, expected {SHA512}")
        with tarfile.open(archive) as tar:
            held = {name: tar.extractfile(member) for member, name in FILES.items()}
            for name, content in held.items():
                if content is not None:
                    (folder / name).write_bytes(content.read())


if __name__ == "__main__":
    try:
        fetch(PAGES)
    except NoBundle as error:
        sys.exit(f"{error}; nothing was written")
