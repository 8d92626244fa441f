"""Engines of TensorRT: the package, plans on disk and graphs that run them."""
