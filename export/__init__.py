"""From networks and checkpoints to a bundle of ONNX graphs. Imported as ``emo_rt.export``; needs extra ``export``."""
