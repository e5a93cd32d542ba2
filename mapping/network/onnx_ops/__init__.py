"""ONNX operations as nodes of a graph."""
