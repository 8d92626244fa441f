"""Faces built in: Google's three face networks as ONNX."""
