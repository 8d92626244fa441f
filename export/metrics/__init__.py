"""The networks of published quality measures, from their public weight files to ONNX for ``emo-rt evaluate``."""
