# make demo: install, walk a trained network along its level set, replay the session with --check.
# make test: the whole suite, in the same environment.

PYTHON ?= python3
VENV ?= .venv
SESSION ?= sessions/demo-$(shell date +%Y-%m-%d-%H%M%S)

.PHONY: demo test benchmark pictures clean

demo: $(VENV)/installed
	$(VENV)/bin/lsshell run examples/quickstart.lss --session $(SESSION)
	$(VENV)/bin/lsshell replay --check --quiet $(SESSION)

test: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest

benchmark: $(VENV)/installed
	$(VENV)/bin/python benchmarks/walk.py
	$(VENV)/bin/python benchmarks/app.py

pictures: $(VENV)/installed
	$(VENV)/bin/python docs/screenshots.py

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
