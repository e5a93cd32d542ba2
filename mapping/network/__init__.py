"""Networks as data: graphs, their files, and import from torch, ONNX and pretrained weights."""
