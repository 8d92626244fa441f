"""The backends that emo_rt brings along. What they need of others' packages is imported when they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from emo_rt.device.base import Backend
from emo_rt.device.entry import BackendEntry
from emo_rt.device.processor import bfloat16_problem, openvino_problem
from emo_rt.errors import EmoRtError
from emo_rt.model.bundle import Bundle


@dataclass(frozen=True)
class OnGpu:
    """A backend on one of the GPUs."""

    index: int = 0
    """Number of the GPU."""

    def on(self, index: int) -> Self:
        """The same backend on another GPU."""
        return type(self)(index)


class TensorRT(OnGpu):
    """Engines of NVIDIA's compiler, made by ``emo-rt build``."""

    NAME, DEVICE = "tensorrt", "cuda"

    def auto(self, bundle: Bundle | None) -> str | None:
        """``auto`` must not choose TensorRT and then stop for want of an engine."""
        from emo_rt.device.tensorrt.gpus import current_gpu
        from emo_rt.device.tensorrt.package import load_package
        from emo_rt.device.tensorrt.plan import find_plan

        try:
            gpu = current_gpu(self.index)
            if bundle is None:
                return "no bundle is known whose engines could be used"
            package = load_package()
            for graph in bundle.graphs:
                find_plan(bundle, graph, package, gpu)
        except EmoRtError as exc:
            return str(exc)
        return None

    def open(self, threads: int | None) -> Backend:
        """On its GPU."""
        require_gpu(self.index)
        from emo_rt.device.cuda import open_device
        from emo_rt.device.tensorrt.graph import TrtBackend

        return TrtBackend(open_device(self.index))


class OnnxRuntimeCuda(OnGpu):
    """ONNX Runtime on a GPU."""

    NAME, DEVICE = "onnxruntime", "cuda"

    def auto(self, bundle: Bundle | None) -> str | None:
        """Wherever it opens."""
        return None

    def open(self, threads: int | None) -> Backend:
        """On its GPU."""
        require_gpu(self.index)
        from emo_rt.device.cuda import open_device
        from emo_rt.device.onnxruntime_cuda import OrtCudaBackend
        from emo_rt.device.onnxruntime_gpu import import_onnxruntime

        import_onnxruntime()  # before a CUDA context takes memory
        return OrtCudaBackend(open_device(self.index))


class OnnxRuntimeCpu:
    """ONNX Runtime on the CPU."""

    NAME, DEVICE = "onnxruntime", "cpu"

    def auto(self, bundle: Bundle | None) -> str | None:
        """The last resort."""
        return None

    def open(self, threads: int | None) -> Backend:
        """On all cores, or as many ``threads``."""
        from emo_rt.device.onnxruntime_cpu import OrtBackend

        return OrtBackend(threads)


@dataclass(frozen=True)
class OpenVino:
    """OpenVINO on the CPU. It computes faster than ONNX Runtime, and takes five times as long to open graphs: in fp32
    it is for processes that run long, with products of bfloat16 it takes 0.6 of the time of a short video, too."""

    NAME: str
    has_bf16: bool
    DEVICE: str = "cpu"

    def auto(self, bundle: Bundle | None) -> str | None:
        """Where it is installed; with bfloat16, where the processor has instructions for it."""
        return bfloat16_problem() if self.has_bf16 else openvino_problem()

    def open(self, threads: int | None) -> Backend:
        """With all cores, or as many ``threads``."""
        from emo_rt.device.openvino import OvBackend

        return OvBackend(threads, bf16=self.has_bf16)


def require_gpu(index: int) -> None:
    """Raise :class:`BackendUnavailableError` where there is no such GPU: asked before anything large is imported."""
    from emo_rt.device.tensorrt.gpus import current_gpu

    current_gpu(index)


ACCELERATED: tuple[BackendEntry, ...] = (TensorRT(), OnnxRuntimeCuda())
"""In the order in which ``auto`` tries them: the fastest first. Then come those of other packages."""
ROUNDING: tuple[BackendEntry, ...] = (OpenVino("openvino-bf16", True),)
"""On the CPU, faster and less exact: 50 dB from the exact pictures of the demo model."""
SLOW_TO_OPEN: tuple[BackendEntry, ...] = (OpenVino("openvino", False),)
"""On the CPU, faster once they are open: ``auto`` leaves them out, ``fastest`` does not."""
LAST: BackendEntry = OnnxRuntimeCpu()
"""The last that ``auto`` tries."""
ORDINARY: tuple[BackendEntry, ...] = (*ROUNDING, *SLOW_TO_OPEN, LAST)
"""Tried behind all that accelerate."""
