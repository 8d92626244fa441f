"""The packaged model's weights back in torch: layers whose zeros the exporter left out."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch

from emo_rt import Bundle
from emo_rt.export.graph_modules import example_inputs, graph_modules
from emo_rt.export.read_back import read_back


def test_the_demos_encoder_is_the_one_of_its_graph() -> None:
    """The bias of ``quant_conv`` is zero, so its graph has none; the seed's would shift all latents."""
    bundle = Bundle.open("demo")
    model = read_back(bundle)
    assert torch.count_nonzero(model.vae.quant_conv.bias) == 0
    module = next(one for one in graph_modules(model) if one.spec.name == "vae_encoder")
    values = example_inputs(module.spec, bundle.config)
    session = onnxruntime.InferenceSession(bundle.graph_path("vae_encoder"))
    (expected,) = session.run(None, {name: value.numpy() for name, value in values.items()})
    with torch.no_grad():
        found = module(*values.values())
    error = np.linalg.norm((found if torch.is_tensor(found) else found[0]).numpy() - expected)
    assert error < 1e-5 * np.linalg.norm(expected)
