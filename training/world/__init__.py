"""A synthetic world of drawn portraits that speak: people, poses, voices, and the truth about every frame."""

from training.world.clip import Clip, ClipTruth
from training.world.identity import Identity
from training.world.pose import Pose
from training.world.renderer import GroundTruth, ground_truth, render
from training.world.speech import Phoneme, Speech, SpeechUnavailableError, Voice, sample_speech, synthesize

__all__ = [
    "Clip",
    "ClipTruth",
    "GroundTruth",
    "Identity",
    "Phoneme",
    "Pose",
    "Speech",
    "SpeechUnavailableError",
    "Voice",
    "ground_truth",
    "render",
    "sample_speech",
    "synthesize",
]
