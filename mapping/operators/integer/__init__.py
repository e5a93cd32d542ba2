"""Integer rules of docs/file-formats.md: on maps, on tensors of any rank, and as numba kernels with the same bits."""
