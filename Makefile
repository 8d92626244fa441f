# What CI checks, in the current environment: `make check`. Another Python: `make check PYTHON=path/to/python`.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: check lint format types test slow slow-exports slow-runs load soak fuzz audit lock sbom docs oldest card browser integrations ray
check: lint format types test

lint format types oldest:
	PYTHON="$(PYTHON)" .ci/run $@

test:
	$(PYTHON) -m pytest

# `make oldest`: the core's tests with the oldest dependencies that pyproject.toml allows, in an environment of its own.

# Whole exports and builds, minutes each: after a change of export/ or engines/.
slow: slow-exports slow-runs

EXPORTING = tests/export tests/engines tests/card
slow-exports:
	$(PYTHON) -m pytest -m slow $(EXPORTING)

slow-runs:
	$(PYTHON) -m pytest -m slow $(EXPORTING:%=--ignore=%)

# A crowd of callers on a real server, also with a kill in the middle: minutes. `make slow` runs it, too.
load:
	$(PYTHON) -m pytest -m slow -n 0 tests/serve/test_load.py

# What must not grow (threads, files, memory): first 1,000 short runs with loads, live sessions, cancels and errors in
# between, some minutes; then half an hour of four live sessions by a simulated clock.
soak:
	$(PYTHON) -m emo_rt.benchmarks.soak
	SOAK_S=1800 $(PYTHON) -m pytest -o addopts= -q --log-cli-level=INFO -m slow tests/runtime/test_live_soak.py

# Every loader of what comes from outside, with atheris in an environment of its own (build/fuzz/venv), so many seconds
# each. CI has the same loaders with hypothesis, for a second each.
FUZZ_S ?= 120
fuzz:
	$(PYTHON) -m venv build/fuzz/venv
	build/fuzz/venv/bin/python -m pip install -q -e '.[cpu,webrtc,provenance]' atheris onnx
	build/fuzz/venv/bin/python -m tests.fuzz.run all $(FUZZ_S)

# Known holes in what all extras bring, but those for GPUs, other frameworks and makers of models, and the versions that
# were looked at (build/audit.lock). Without pip and setuptools, which the interpreter brings. Needs PyPI itself (a mirror
# may not tell of holes), so CI does not run it.
audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install -q '.[cpu,openvino,webrtc,batch,remote,evaluate,provenance]'
	build/audit/bin/python -m pip freeze --exclude emo_rt > build/audit.lock
	$(PYTHON) -m venv build/audit-tool
	build/audit-tool/bin/python -m pip install -q pip-audit
	build/audit-tool/bin/python .ci/audit.py build/audit.lock

# The versions that the tests ran with: build/tests.lock. Needs no network.
lock:
	mkdir -p build
	$(PYTHON) -m pip freeze --exclude-editable > build/tests.lock

# What the wheel is and what it brings, without extras, as CycloneDX 1.6: build/sbom.json. It is made of an environment
# with nothing else in it, not even pip. build/lib goes first: a wheel would take old files from it. Needs the network.
sbom:
	rm -rf build/lib build/wheel build/sbom
	$(PYTHON) -m pip wheel -q --no-deps -w build/wheel .
	$(PYTHON) -m venv --without-pip build/sbom
	$(PYTHON) -m pip --python build/sbom/bin/python install -q build/wheel/*.whl
	$(PYTHON) -m venv build/sbom-tool
	build/sbom-tool/bin/python -m pip install -q cyclonedx-bom
	build/sbom-tool/bin/cyclonedx-py environment build/sbom --pyproject pyproject.toml --of JSON -o build/sbom.json

# Pages in a real browser, in an environment of their own (build/browser) with Playwright. Skips without Chromium.
browser:
	$(PYTHON) -m venv build/browser
	build/browser/bin/python -m pip install -q -e '.[cpu,webrtc]' playwright axe-playwright-python pytest filelock
	build/browser/bin/python -m pytest -o addopts= --confcutdir=tests/serve/browser -p no:cacheprovider -q -rs \
		tests/browser tests/serve/browser

# What others' packages say to emo_rt: the adapters for LiveKit and Pipecat, WebRTC with aiortc at both ends, traces of
# OpenTelemetry, and Schemathesis against OpenAPI, in an environment of their own (build/integrations).
integrations:
	$(PYTHON) -m venv build/integrations
	build/integrations/bin/python -m pip install -q -e '.[cpu,livekit,pipecat,webrtc]' filelock pytest \
		httpx2 opentelemetry-exporter-otlp-proto-http schemathesis
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
