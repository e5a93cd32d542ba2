"""Networks as data: graphs, their files, and how they come from torch, ONNX and weights of others."""
