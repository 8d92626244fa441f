"""`emo-rt serve`: jobs and live sessions over HTTP, for one device. Extra ``serve``.

A request passes :mod:`~emo_rt.serve.guard` (host, origin, key, size) and a route. A job's inputs are decoded in a child
process (:mod:`~emo_rt.serve.decoding`), kept in :mod:`~emo_rt.serve.store`, and made by :mod:`~emo_rt.serve.runner`.
"""
