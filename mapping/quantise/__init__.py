"""From real numbers to integers: fused operations, ranges, scales, rounding."""
