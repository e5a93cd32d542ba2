"""Operations of networks, one file a family: what the composer does, its names in ATen, ONNX and TFLite."""
