"""The calibrated simulator: layers of a virtual chip, conversion by conversion (exact) or by matched moments (fast)."""
