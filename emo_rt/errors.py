"""Every error that emo_rt raises on purpose.

::

    EmoRtError
    ├── ConfigError (ValueError)         a setting is unknown or out of range
    ├── MissingDependencyError (ImportError)   an optional extra is not installed
    ├── BundleError                      a model folder cannot be used
    │   ├── BundleVersionError           written by a newer emo_rt
    │   └── BundleIntegrityError         a file is missing, changed or unsafe
    ├── InputError (ValueError)          something the caller gave cannot be used
    │   ├── AudioError                   no sound track, unreadable, empty, not finite
    │   └── PortraitError                unreadable picture, impossible box
    │       └── FaceNotFoundError        no face found; give a box instead
    ├── OutputError                      a file could not be written (nothing is left behind)
    ├── BackendError                     a runtime or device failed
    │   ├── BackendUnavailableError      the requested backend or device cannot be had
    │   ├── CaptureError                 work could not be captured as a CUDA graph; it can still run uncaptured
    │   ├── DeviceLostError              the device failed for good: nothing but a reload helps
    │   └── NotFiniteError               a network computed values that are not finite
    ├── EngineError                      a TensorRT engine cannot be built or used
    │   ├── EngineBuildError             TensorRT refused to build it (nothing is left behind)
    │   ├── EngineStaleError             there is none, or it was built from or for something else
    │   └── EngineIntegrityError         it is changed, unvouched for, or others can write it
    ├── ExportError                      a graph could not be exported or does not match
    │   └── CheckpointError              a checkpoint does not fit the network
    ├── QueueFull                        a live session's queue of sound is full
    ├── OverloadedError                  one more live session would make all late, or would not fit
    ├── ClosedError                      the object was closed
    └── Cancelled                        the caller asked to stop

Messages say what failed, the actual and the expected value, and what to do.
"""


class EmoRtError(Exception):
    """Base class of every error that emo_rt raises on purpose."""


class ConfigError(EmoRtError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class MissingDependencyError(EmoRtError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class BundleError(EmoRtError):
    """A model folder cannot be used."""


class BundleVersionError(BundleError):
    """The bundle was written by a newer emo_rt than this one."""


class BundleIntegrityError(BundleError):
    """A file of the bundle is missing, differs from its recorded hash, or points outside."""


class InputError(EmoRtError, ValueError):
    """Something the caller gave cannot be used."""


class AudioError(InputError):
    """The audio is unreadable, empty, not finite or has no sound track."""


class PortraitError(InputError):
    """The picture is unreadable or a box does not fit it."""


class FaceNotFoundError(PortraitError):
    """No face was found in the picture; pass a face box to go on."""


class OutputError(EmoRtError):
    """A result could not be written. No partial file is left."""


class BackendError(EmoRtError):
    """A runtime or a device failed."""


class BackendUnavailableError(BackendError):
    """The requested backend or device cannot be had on this machine."""


class EngineError(EmoRtError):
    """A TensorRT engine cannot be built or used."""


class EngineBuildError(EngineError):
    """TensorRT refused to build an engine. No partial file is left."""


class EngineStaleError(EngineError):
    """There is no engine for a graph, or it was built from or for something else; the message has the command."""


class EngineIntegrityError(EngineError):
    """An engine is changed, not vouched for, or lies where others can write it; it is native code, so it is refused."""


class CaptureError(BackendError):
    """Work could not be captured as a CUDA graph. It can still be launched piece by piece."""


class NotFiniteError(BackendError):
    """A network computed values that are not finite: its pictures would be black. The next run may work."""


class DeviceLostError(BackendError):
    """The device failed in a way that lasts (an illegal address, a hardware error).

    CUDA gives the same error to every later call of the process, so nothing can go on: close the animator and load it
    again, in a new process if the first load fails as well.
    """


class ExportError(EmoRtError):
    """A graph could not be exported, or does not compute what the network computes."""


class CheckpointError(ExportError):
    """A checkpoint does not fit the network: the message lists the tensors by name."""


class QueueFull(EmoRtError):
    """More sound was pushed than a live session lets wait. Nothing of it was taken; push it later."""


class OverloadedError(EmoRtError):
    """One more live session would make all of the device late, or would need more memory than is allowed."""


class ClosedError(EmoRtError):
    """The object was closed and cannot be used any more."""


class Cancelled(EmoRtError):
    """The caller asked to stop. Nothing partial is left; the next call works."""
