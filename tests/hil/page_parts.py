"""What a page holds: its figures, and itself without the libraries that it brings."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any


def figures_of(page: str) -> dict[str, Any]:
    """The figures of a page by name; none where it draws none."""
    found = re.search(r'<script type="text/plain" id="figures">(.*?)</script>', page)
    return {} if found is None else dict(json.loads(gzip.decompress(base64.b64decode(found[1]))))


def own(page: str) -> str:
    """The page without its libraries, its figures as text."""
    text = re.sub(r'<script type="text/plain" class="library">.*?</script>', "", page)
    return re.sub(
        r'<script type="text/plain" id="figures">.*?</script>',
        lambda _: f'<script id="figures">{json.dumps(figures_of(page)).replace("<", chr(92) + "u003c")}</script>',
        text,
    )
