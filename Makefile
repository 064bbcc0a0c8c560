# make lab   set up everything and open the tour in JupyterLab   (ARGS="--no-browser --port 8899")
# make test  set up everything, test tools included, and run the tests   (ARGS="tests/test_forward.py")
# make widgets7  run the tests of the explorers with ipywidgets 7.7, which Colab has
# make oldest  run a part of the tests with the oldest versions pyproject.toml admits
# make coverage  run the tests outside the browser and list the files whose lines they do not all run
# make site  set up everything and write the lectures as pages, in build/site   (ARGS="DIR --instructor")
# make bench run the benchmarks and write their table into README.md, ten minutes   (ARGS="sampling unet")
# make check linters and the type checker
# make mutants  change the mathematics line by line: do the tests notice?   (ARGS="diffusion_edu.forward*")
# A second run installs nothing: the stamps below are newer than what they depend on.

PYTHON ?= python3
ARGS ?=
NOTHING := $(if $(ARGS),|| [ $$$$? = 5 ])
BIN := .venv/bin
SOURCES := pyproject.toml constraints.txt
BROWSER := $(if $(NO_BROWSER),,browser)

.PHONY: lab test widgets7 coverage oldest site bench check mutants browser clean

lab: .venv/.lab
	$(BIN)/diffusion-edu lab $(if $(NO_BROWSER),--no-browser) $(ARGS)

# A file to a process, and about one process a core (tests/conftest.py says which, and how many); browser
# tests, some of which look at the clock, last.
# With ARGS one of the two may have nothing to run, which pytest ends with code 5.
test: .venv/.test $(BROWSER)
	$(BIN)/python -m pytest -m "not browser" -n auto --dist loadfile $(ARGS) $(NOTHING)
	$(if $(NO_BROWSER),,$(BIN)/python -m pytest -m browser -n auto --dist loadfile $(ARGS) $(NOTHING))

# Laid over the environment, not into it.
widgets7: .venv/.test
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --upgrade --no-deps --target .venv/widgets7 \
	  ipywidgets==7.7.5 widgetsnbextension==3.6.10 jupyterlab_widgets==1.1.11 ipython_genutils==0.2.0
	PYTHONPATH=.venv/widgets7 $(BIN)/python -c 'import ipywidgets; assert ipywidgets.__version__ == "7.7.5"'
	PYTHONPATH=.venv/widgets7 $(BIN)/python -m pytest tests/test_widgets*.py -n auto --dist loadfile $(ARGS)

# A few tests for each library below us, old or new; `make test` runs the others.
OLDEST := $(addprefix tests/test_,$(addsuffix .py,versions forward metrics data download \
  pretrained plots viz_images widgets widgets_reverse widgets_images check_picture cards site \
  grading_files)) \
  tests/test_cli.py::test_lab_starts_asks_for_the_token_runs_a_notebook_and_stops \
  tests/test_cli.py::test_every_command_explains_itself \
  'tests/test_lectures.py::test_it_runs_offline_without_a_warning[01_forward_process]'

oldest: .venv/.oldest
	.venv/oldest/bin/python -m pytest -n auto --dist loadfile $(or $(ARGS),$(OLDEST))

# Begins as the environment of the tests, its files as links: pip replaces what is too new, and
# writes into none. The rest, torch before all, need not be fetched twice.
.venv/.oldest: constraints-oldest.txt .venv/.test
	rm -rf .venv/oldest
	$(BIN)/python -m venv --without-pip .venv/oldest
	cp -al .venv/lib .venv/share .venv/etc .venv/oldest
	.venv/oldest/bin/python -m pip uninstall -qq --yes mutmut textual  # of dev; they want a new rich
	.venv/oldest/bin/python -m pip install --disable-pip-version-check --quiet --no-compile -r constraints-oldest.txt
	.venv/oldest/bin/python -m pip check
	touch $@

# The workers of pytest, commands and kernels write files of their own, and are put together.
coverage: .venv/.test
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest -m "not browser" -n auto --dist loadfile $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Only what changed is executed again: build/site-cache.
site: .venv/.site
	$(BIN)/diffusion-edu lectures site $(ARGS)

# With names in ARGS only these run, and their table is only printed.
bench: .venv/.test $(BROWSER)
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Only functions that changed since the last run are mutated again: mutants/.
mutants: .venv/.dev
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/mutmut run $(ARGS)
	$(BIN)/mutmut results

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "diffusion_edu needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv

# .venv/.lab, .venv/.test, .venv/.site, .venv/.dev: one stamp for each extra of pyproject.toml
.venv/.%: $(SOURCES) | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[$*]'
	touch $@

# The browser tests need Chromium. Debian as root: install it. Elsewhere they use the one that is there,
# or are skipped with a message.
browser:
	@if ! command -v chromium >/dev/null && [ -f /etc/debian_version ] && [ "$$(id -u)" = 0 ]; then \
	  echo "installing Debian's chromium for the browser tests (NO_BROWSER=1 leaves them out)"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; \
	fi

clean:
	rm -rf .venv build dist mutants .pytest_cache .hypothesis .mypy_cache .ruff_cache
