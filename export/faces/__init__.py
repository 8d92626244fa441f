"""Google's three face networks, from TensorFlow Lite to ONNX. Run once; the results ship with ``emo_rt.faces``."""
