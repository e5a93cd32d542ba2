"""Fetch Plotly's cartesian bundle by npm into hil/pages, where pages and wheels take it from; its digest is checked.

Without it pages hold the full bundle of the Python package: three times as large.
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


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}", "--pack-destination", folder]
        subprocess.run(command, check=True, timeout=300, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        digest = hashlib.sha512(archive.read_bytes()).hexdigest()
        if digest != SHA512:
            sys.exit(f"{PACKAGE} {VERSION} has SHA-512 {digest}, expected {SHA512}: nothing was written")
        with tarfile.open(archive) as tar:
            for member, name in FILES.items():
                content = tar.extractfile(member)
                if content is None:
                    sys.exit(f"{PACKAGE} {VERSION} holds no {member}")
                (PAGES / name).write_bytes(content.read())


if __name__ == "__main__":
    main()
