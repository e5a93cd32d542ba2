"""Bits of weights, tables and sums in the integer rules."""

AFFINE_BITS = 14
"""The largest weight of an ``AffineStep`` or ``NormStep`` is 2^14 in magnitude."""
OFFSET_BITS = 30
"""Their largest offset is 2^30 in magnitude."""
NORM_BITS = 10
"""A norm gives 2^10 for one standard deviation, and ends at ±(2^15 − 1)."""
ROOT_HIGH = 24  # a variance is brought to 2^22 … 2^24 − 1 before its root is taken
ROOT_BITS = 31  # R = √(2^62 / w) is 2^31 / √w
CODE_HIGH = (1 << 15) - 1  # the largest result of a norm before its weights
SHARE_BITS = 30
"""A softmax gives 2^30 for one, before it is requantised."""
EXP_BITS = 16
"""The largest entry of the table of a softmax is 2^16."""
LARGEST_TABLE = 1 << 16
SQUARE_BITS = 30  # of a code of 16 bits
EXACT_BITS = 53  # of a double
