# What CI checks, in the current environment: `make check`. Another Python: `make check PYTHON=path/to/python`.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: check lint format types test slow load soak docs oldest card browser integrations ray
check: lint format types test

lint format types oldest:
	PYTHON="$(PYTHON)" .ci/run $@

test:
	$(PYTHON) -m pytest

# `make oldest`: the core's tests with the oldest dependencies that pyproject.toml allows, in an environment of its own.

# Whole exports and builds, minutes each: after a change of export/ or engines/.
slow:
	$(PYTHON) -m pytest -m slow

# A crowd of callers on a real server, also with a kill in the middle: minutes. `make slow` runs it, too.
load:
	$(PYTHON) -m pytest -m slow -n 0 tests/serve/test_load.py

# Half an hour of four live sessions by a simulated clock: threads, files and memory must not grow.
soak:
	SOAK_S=1800 $(PYTHON) -m pytest -o addopts= -q --log-cli-level=INFO -m slow tests/runtime/test_live_soak.py

# Pages in a real browser, in an environment of their own (build/browser) with Playwright. Skips without Chromium.
browser:
	$(PYTHON) -m venv build/browser
	build/browser/bin/python -m pip install -q -e '.[cpu,serve]' playwright axe-playwright-python pytest filelock
	build/browser/bin/python -m pytest -o addopts= --confcutdir=tests/serve/browser -p no:cacheprovider -q -rs \
		tests/browser tests/serve/browser

# The adapters for LiveKit and Pipecat with the real packages, in an environment of their own (build/integrations).
integrations:
	$(PYTHON) -m venv build/integrations
	build/integrations/bin/python -m pip install -q -e '.[cpu,livekit,pipecat]' filelock pytest
	build/integrations/bin/python -m pytest -o addopts= -q -rs tests/integrations

# Batches and the server on a real cluster of several nodes, and a store like S3, in an environment of their own.
ray:
	$(PYTHON) -m venv build/ray
	build/ray/bin/python -m pip install -q -e '.[cpu,ray]' filelock pytest s3fs 'moto[server]'
	build/ray/bin/python -m pytest -o addopts= -q -rs -W ignore::DeprecationWarning tests/cluster

# The documentation as a site, in build/docs; the extra `docs`. A warning fails.
docs:
	$(PYTHON) -m sphinx -E -W --keep-going -q -b html docs build/docs

# The real onnxruntime-gpu on a simulated card, in an environment of its own: minutes, and a download of 300 MB once.
card:
	$(PYTHON) -m tests.card.environment
