"""Mode of a simulation: what is computed."""

from __future__ import annotations

import enum


class SimulationMode(enum.StrEnum):
    """How a layer of a virtual chip is computed: conversion by conversion, or by moments."""

    EXACT = "exact"  # every conversion of every input plane
    FAST = "fast"  # one product for all planes, noise of matched moments
