# make demo: install, walk a trained network along its level set, replay the session with --check.
# make paper: the five published experiments at a reduced size (half an hour on two cores), and a
#   report; make paper-full: at the published size (days), with the official files under data/ by
#   SIZE=full-root, with nothing held out to choose by SIZE=published. Both go on where they were
#   interrupted, and report what there is where a run has failed.
# make test: the whole suite, in the same environment.

PYTHON ?= python3
VENV ?= .venv
SESSION ?= sessions/demo-$(shell date +%Y-%m-%d-%H%M%S)

PAPER ?= sessions/paper-$(SIZE)
JOBS ?= 2
BATCH = $(VENV)/bin/lsshell batch --jobs $(JOBS) --set size=$(SIZE)
RUNS = examples/paper
scripts = $(foreach x,$(1),$(RUNS)/$(x).lss)
rivals = $(foreach x,$(1),$(RUNS)/$(x)-weight-decay.lss)
DENSE = iris-ff mpg-ff mnist-ff
CONVOLUTIONS = mnist-conv cifar10-conv

.PHONY: demo paper paper-full test benchmark pictures clean

demo: $(VENV)/installed
	$(VENV)/bin/lsshell run examples/quickstart.lss --session $(SESSION)
	$(VENV)/bin/lsshell replay --check --quiet $(SESSION)

paper: SIZE = reduced
paper: $(VENV)/installed
	-$(BATCH) --session $(PAPER)/dense --matrix $(RUNS)/seeds/5.toml \
	  $(call scripts,$(DENSE)) $(call rivals,$(DENSE))
	-$(BATCH) --session $(PAPER)/rest --matrix $(RUNS)/seeds/2.toml $(RUNS)/regularizers.lss \
	  $(call scripts,$(CONVOLUTIONS)) $(call rivals,$(CONVOLUTIONS))
	$(VENV)/bin/lsshell report $(PAPER) --out $(PAPER)/report

paper-full: SIZE = full
paper-full: $(VENV)/installed
	-$(BATCH) --session $(PAPER)/mpg --matrix $(RUNS)/seeds/10.toml $(RUNS)/mpg-ff.lss
	-$(BATCH) --session $(PAPER)/walks --matrix $(RUNS)/seeds/5.toml $(RUNS)/regularizers.lss \
	  $(call scripts,iris-ff mnist-ff $(CONVOLUTIONS))
	-$(BATCH) --session $(PAPER)/weight-decay --matrix $(RUNS)/seeds/15.toml \
	  $(call rivals,$(DENSE) $(CONVOLUTIONS))
	$(VENV)/bin/lsshell report $(PAPER) --out $(PAPER)/report

test: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

benchmark: $(VENV)/installed
	$(VENV)/bin/python benchmarks/methods.py iris-ff mpg-ff mnist-ff
	$(VENV)/bin/python benchmarks/walk.py
	$(VENV)/bin/python benchmarks/scaling.py
	$(VENV)/bin/python benchmarks/ranks.py
	$(VENV)/bin/python benchmarks/walkers.py
	$(VENV)/bin/python benchmarks/memory.py
	$(VENV)/bin/python benchmarks/app.py
	$(VENV)/bin/python benchmarks/landscape.py  # beside other programs where they are installed

pictures: $(VENV)/installed
	$(VENV)/bin/python docs/screenshots.py

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
