"""Exporting functions: to MXNet's files and to ONNX."""
