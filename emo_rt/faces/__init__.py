"""Faces built in: where they are, their 478 landmarks, their expression and their pose.

Google's three networks of the Face Landmarker, as ONNX, on ONNX Runtime or OpenVINO::

    from emo_rt.faces import FaceFinder

    faces = FaceFinder().find(picture)          # (H, W, 3) uint8 RGB → the largest first
    print(faces[0].box, faces[0].blendshapes["jawOpen"], faces[0].pose.yaw)

Landmarks and blendshapes are those of Google's own runtime, to 0.05 % of the face's width and to 0.003.
"""

from emo_rt.faces.drawing import draw_faces
from emo_rt.faces.finder import FaceFinder, default_finder
from emo_rt.faces.report import as_json

__all__ = ["FaceFinder", "as_json", "default_finder", "draw_faces"]
