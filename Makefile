# What a reader and a developer run. `make help` lists it.
#
# Everything is installed into .venv beside this file, once: .venv/.installed is the sign that the
# install went through, and it is older than requirements.lock or pyproject.toml when either changes.

# The Python that .venv is made from; left empty, the first of CANDIDATES that will do.
PYTHON ?=
CANDIDATES := python3.11 python3 python3.12 python3.13 python
# Processes that share the tests between them.
JOBS ?= 2
# Further options, for example: make lab ARGS=--no-browser
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := 2.13.0

# Ends with one line, the value, what was expected, and what to try, where this Python will not do.
define CHECK
import sys
name = sys.argv[1]
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit("make: %s is Python %d.%d: expected 3.11 to 3.13, for which requirements.lock holds; "
        "try make %s PYTHON=python3.11" % ((name,) + tuple(sys.version_info[:2]) + (sys.argv[2],)))
try:
    import ensurepip, venv
except ImportError:
    sys.exit("make: %s (Python %d.%d) has no venv module: expected venv and ensurepip; "
        "try sudo apt-get install python%d.%d-venv" % ((name,) + tuple(sys.version_info[:2]) * 2))
endef
export CHECK

# What pip would install into an empty environment (its report, on standard input), as lock lines.
define LOCK
import json, re, sys
report = json.load(sys.stdin)
names = {}
for item in report["install"]:
    name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
    names[name] = item["metadata"]["version"].split("+")[0]
names.pop("course-lib")
# What only torch's CUDA build needs: torch names the exact versions itself where it is that build.
names = {n: v for n, v in names.items() if not re.match("nvidia-|cuda-|triton$$", n)}
print("# Made by `make lock` with Python %s on Linux: the exact versions of everything that"
    % report["environment"]["python_version"])
print("# course-lib[test] in pyproject.toml needs, and what they need in turn.")
print("# torch is named without its build (CPU or CUDA): either will do.")
for name in sorted(names):
    print("%s==%s" % (name, names[name]))
endef
export LOCK

# Sets $$python, or ends with a line that says why not.
define FIND_PYTHON
python="$(PYTHON)"; \
if [ -z "$$python" ]; then \
	for python in $(CANDIDATES); do \
		"$$python" -c "$$CHECK" "$$python" $(1) >/dev/null 2>&1 && break; \
		python=; \
	done; \
fi; \
python="$${python:-python3}"; \
if ! command -v "$$python" >/dev/null; then \
	echo "make: no $$python here: expected Python 3.11 to 3.13; try make $(1) PYTHON=/path/to/python3.11" >&2; exit 1; \
fi; \
"$$python" -c "$$CHECK" "$$python" $(1) || exit 1
endef

# A checkout that was moved, or a Python that is gone, makes the install void.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
else ifeq ($(wildcard $(BIN)/python),)
.PHONY: $(STAMP)
endif

.PHONY: help install lab app quick test lint suite unit browser notebooks outputs site kernels bench lock clean

help:
	@echo "To read the course:"
	@echo "  make lab        open it in JupyterLab (installs on first use)"
	@echo "  make app        serve the lab alone as a page, for a demonstration"
	@echo "  make install    only install, into .venv"
	@echo
	@echo "To work on it (CONTRIBUTING.md):"
	@echo "  make quick      the tests for every change: all rooms, no browser, no notebook, nothing slow"
	@echo "  make test       everything: lint, suite and notebooks"
	@echo "    make lint       ruff and mypy"
	@echo "    make suite      all of unit, browser, kernels and site, $(JOBS) files at a time"
	@echo "      make unit       the library, slow tests included"
	@echo "      make browser    the lab in JupyterLab, in Notebook 7 and as a page, in Chromium"
	@echo "      make kernels    the lab's messages, on every version of ipykernel that it is made for"
	@echo "      make site       a book of the notebooks in build/site, checked in the browser"
	@echo "    make notebooks  every notebook, run once by nbval and compared with its outputs"
	@echo "  make outputs    the outputs of every notebook anew, written into it"
	@echo "  make bench      what is fast, against what"
	@echo "  make lock       requirements.lock anew, from pyproject.toml"
	@echo "  make clean      remove .venv and what the tools left (not your runs)"
	@echo
	@echo "PYTHON=python3.11  the Python to make .venv from"
	@echo "ARGS=...           further options, for example: make lab ARGS=--no-browser"

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@rm -f $@
	@$(call FIND_PYTHON,$(or $(firstword $(MAKECMDGOALS)),install)); \
	if ! "$(BIN)/python" -c "$$CHECK" "$(BIN)/python" install >/dev/null 2>&1 \
		|| ! "$(BIN)/python" -m pip --version >/dev/null 2>&1; then \
		echo "make: a new environment in $(VENV), from $$python"; \
		"$$python" -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "make: installing what requirements.lock names into $(VENV), which takes some minutes"
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@printf '%s' "$(CURDIR)" > $@.part && mv $@.part $@

# Jupyter refuses to run as root (in a container, say) unless told to; it listens on this machine only, behind a token.
lab: $(STAMP)
	$(BIN)/python -m jupyterlab --ServerApp.root_dir="$(CURDIR)" --KernelManager.transport_encryption=auto \
		--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
		$$([ "$$(id -u)" != 0 ] || echo --allow-root) $(ARGS)

# The lab alone, as a page without code; each visitor gets a kernel of their own, which ends some time after they left.
app: $(STAMP)
	$(BIN)/python -m voila app/lab.ipynb --Voila.config_file_paths=app --KernelManager.transport_encryption=auto $(ARGS)

# In order: what fails fastest comes first. Each part is its own pytest run, and one without a test fails.
test: $(STAMP)
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory suite
	@$(MAKE) --no-print-directory notebooks

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# One thread for each process: two processes with two threads each would get in each other's way.
# loadfile: what a file's tests share (a trained run, a server) is made once. No test measures time, so any of them
# may run beside any other. They run in the order of their names: the browser's long files come first.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

quick: $(STAMP)
	$(PYTEST) -m "not (slow or browser or site or kernels)" $(ARGS)

# Kernels of other versions, each with its packages in a folder of its own; without an index they are skipped.
suite: $(STAMP)
	$(BIN)/python -m tests.lab.kernels
	$(PYTEST) tests $(ARGS)

unit: $(STAMP)
	$(PYTEST) -m "not (browser or site or kernels)" $(ARGS)

browser: $(STAMP)
	$(PYTEST) -m browser tests/browser $(ARGS)

# Each notebook is run once, and its outputs compared with those that are committed (tests/notebooks/nbval_rules.py).
# A cell may take half an hour: no machine is too slow.
notebooks: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p tests.notebooks.nbval_rules -n $(JOBS) --dist loadfile \
		--nbval --nbval-current-env --nbval-cell-timeout=1800 --nbval-kernel-startup-timeout=600 notebooks $(ARGS)

outputs: $(STAMP)
	$(BIN)/python -m book.outputs $(ARGS)

site: $(STAMP)
	$(BIN)/python -m pytest -m site tests/site $(ARGS)
	@echo "make: the site is build/site/index.html"

kernels: $(STAMP)
	$(BIN)/python -m tests.lab.kernels
	$(PYTEST) -m kernels tests/lab/test_kernels.py $(ARGS)

bench: $(STAMP)
	@set -e; for script in bench/*.py; do echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

# Resolves without installing: pip in a fresh environment reports what it would install.
lock:
	@$(call FIND_PYTHON,lock); \
	"$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "make: the lock is made with Python 3.11, this is %d.%d; try make lock PYTHON=python3.11" % sys.version_info[:2])' || exit 1; \
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder" requirements.lock.part' EXIT; set -e; \
	"$$python" -m venv "$$folder/venv"; \
	"$$folder/venv/bin/python" -m pip install --disable-pip-version-check --quiet \
		--dry-run --ignore-installed --report "$$folder/report.json" ".[test]" "torch==$(TORCH)"; \
	"$$folder/venv/bin/python" -c "$$LOCK" < "$$folder/report.json" > requirements.lock.part; \
	mv requirements.lock.part requirements.lock; \
	echo "make: requirements.lock names $$(grep -c == requirements.lock) packages"

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} + -o -name .ipynb_checkpoints -prune -exec rm -rf {} +
