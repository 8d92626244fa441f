# What CI checks, in the current environment: `make check`. Another Python: `make check PYTHON=path/to/python`.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: check lint format types test slow docs oldest card browser
check: lint format types test

lint format types oldest:
	PYTHON="$(PYTHON)" .ci/run $@

test:
	$(PYTHON) -m pytest

# `make oldest`: the core's tests with the oldest dependencies that pyproject.toml allows, in an environment of its own.

# Whole exports and builds, minutes each: after a change of export/ or engines/.
slow:
	$(PYTHON) -m pytest -m slow

# Pages in a real browser, in an environment of their own (build/browser) with Playwright. Skips without Chromium.
browser:
	$(PYTHON) -m venv build/browser
	build/browser/bin/python -m pip install -q -e '.[cpu,serve]' playwright axe-playwright-python pytest filelock
	build/browser/bin/python -m pytest -o addopts= --confcutdir=tests/serve/browser -p no:cacheprovider -q -rs \
		tests/browser tests/serve/browser

# The documentation as a site, in build/docs; the extra `docs`. A warning fails.
docs:
	$(PYTHON) -m sphinx -E -W --keep-going -q -b html docs build/docs

# The real onnxruntime-gpu on a simulated card, in an environment of its own: minutes, and a download of 300 MB once.
card:
	$(PYTHON) -m tests.card.environment
