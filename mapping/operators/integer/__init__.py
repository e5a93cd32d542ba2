"""Integer rules of docs/digital_ops.md: on maps, on tensors of any rank, and as numba kernels with the same bits."""
