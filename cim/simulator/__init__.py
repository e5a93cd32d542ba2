"""The calibrated simulator: layers of one virtual chip, conversion by conversion (exact) or by matched moments (fast)."""
