"""Usual limits of a space, known without one."""

from __future__ import annotations

LEAST_SHARE = 0.5  # of the last of several arrays that a layer uses; operators that use less go
