"""Habits of the history: each commit says why."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
SINCE = "c3fae74a"  # the commit that set the ceilings of size
LEAST_WORDS = 8  # of a body: why, and how it was seen to work


def test_each_of_the_last_thirty_commits_says_why_in_its_body() -> None:
    words = ["git", "log", "-30", "--no-merges", "--format=%h%x1f%s%x1f%b%x1e", f"{SINCE}..HEAD"]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    commits = [entry.strip().split("\x1f") for entry in told.split("\x1e") if entry.strip()]
    assert commits
    bare = [f"{number} {subject}" for number, subject, body in commits if len(body.split()) < LEAST_WORDS]
    assert not bare, f"commits without a body: {bare}"
