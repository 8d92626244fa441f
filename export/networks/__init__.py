"""The EMO-family networks in torch, one per file, shaped by :class:`emo_rt.model.config.ModelConfig`."""
