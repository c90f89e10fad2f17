"""Building ONNX graphs: the encoder from a description of it, and the heads that follow it."""
