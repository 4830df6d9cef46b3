# The map of the project's commands. `make` prints it.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The tools that scripts/setup brings, after those that are on PATH already.
ENV := eval "$$(scripts/setup env)"

# In CI the bridge is compiled with warnings as errors too. Nowhere else: newer compilers warn about more.
ifdef CI
  export WERROR := 1
endif

# A build of another make that may run this one has nothing to say here.
MAKEFLAGS += --no-print-directory

MINORS := 10 11 12 13
FREE_THREADED := 3.14 3.15
# What `make test` runs: everything, or these files. The core is what Python, the bridge and the VM do with each other.
TESTS :=
CORE := test/pythonx_test.exs $(wildcard $(addprefix test/pythonx/,conversion_test.exs buffer_test.exs object_test.exs \
  output_test.exs pool_test.exs server_test.exs table_test.exs threads_test.exs calls/*_test.exs conversion/*_test.exs))
NATIVE := $(wildcard test/support/*.cpp scripts/musl/*.c scripts/musl/*.cpp scripts/wheels/*.cpp $(addprefix c_src/*/*., c h cpp hpp) $(addprefix c_src/*/*/*., cpp hpp) $(addprefix bench/*., c h cpp hpp) $(addprefix bench/*/*., c h cpp hpp))
PYTHON := $(wildcard priv/python test/python scripts bench examples)
# Debian keeps ExDoc among the libraries of its own Elixir; another Elixir has to be told.
EX_DOC := $(foreach app,ex_doc earmark_parser makeup makeup_elixir makeup_erlang nimble_parsec,-pa /usr/lib/elixir/lib/$(app)/ebin)

.PHONY: help core setup demo test test-pythons test-otp-25 test-otp-29 test-arm64 test-bare test-musl test-free-threaded bench bench-memory bench-startup bench-parallel stress chaos fuzz sanitize wheels lint format docs clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

setup: ## bring this machine to where the others run: Elixir, a Python, a compiler, uv
	scripts/setup

# Forced, because Mix.install asks for Hex when it finds an earlier installation, even of a folder that needs none.
demo: setup ## run the example: numpy on a CSV file, from Elixir
	$(ENV); MIX_INSTALL_FORCE=1 elixir examples/quickstart.exs

test: setup ## compile with warnings as errors and run the tests, or those of TESTS
	$(ENV); "$${PYTHONX_TEST_PYTHON:-python3}" -m unittest discover -s test/python
	$(ENV); export MIX_ENV=test; mix compile --warnings-as-errors; mix test --warnings-as-errors $(TESTS)

# The scripts say why a Python cannot be had, with an exit status of their own.
test-pythons: setup ## run the tests on CPython 3.10 to 3.13, and on 3.14 and 3.15 where Debian's can be had
	$(ENV); unset PYTHONX_TEST_PYTHON; export MIX_ENV=test; mix compile --warnings-as-errors; \
	minors="$(MINORS)"; \
	if newest=$$(scripts/python-3.14); then \
	  minors="$$minors 14"; newest=$$(tail -n 1 <<<"$$newest"); PATH="$$PATH:$${newest%/*}"; \
	else \
	  echo "== CPython 3.14 is left out"; \
	fi; \
	for minor in $$minors; do \
	  echo "== CPython 3.$$minor"; PYTHONX_TEST_PYTHON_MINOR=$$minor mix test $(TESTS) || failed="$${failed:-} 3.$$minor"; \
	done; \
	echo "== CPython 3.15"; $(ON_NEWEST) || { [ $$? = 125 ] && echo "== CPython 3.15 is left out"; } || failed="$${failed:-} 3.15"; \
	if [ -n "$${failed:-}" ]; then echo "failed on:$$failed" >&2; exit 1; fi

ON_NEWEST = scripts/chroot sid env PYTHONX_TEST_PYTHON=/usr/bin/python3.15 make test TESTS="$(TESTS)"

test-otp-29: ## run the tests on Elixir 1.20, OTP 29 and CPython 3.15, in a folder with Debian's newest suite
	$(ON_NEWEST)

test-otp-25: ## run the core of the tests on OTP 25.2, as Debian 12 has it, in a folder with that Debian
	scripts/chroot bookworm make test TESTS="$(or $(TESTS),$(CORE))"

core: ## print the files of the core
	@echo $(CORE)

# What an emulator cannot do in time: it imports asyncio in half a minute, and some tests wait no longer for what does that.
EMULATED := in_time

test-arm64: setup ## run the core of the tests on arm64, in a folder with a Debian whose programs qemu runs
	scripts/setup wheels
	scripts/chroot arm64 mix test --no-compile --timeout 3600000 $(addprefix --exclude ,$(EMULATED)) $(or $(TESTS),$(CORE))

test-bare: setup ## run the core of the tests with a wheel, in a folder with a Debian that has no make, compiler and headers
	scripts/setup wheels
	scripts/chroot bare mix test $(or $(TESTS),$(CORE))

test-musl: setup ## link everything for musl, and try there what needs neither an Erlang nor a CPython of musl
	scripts/setup wheels
	$(ENV); "$$(dirname "$$(command -v python-zig)")/python" -B scripts/musl/check.py

test-free-threaded: setup ## run the tests on free-threaded CPython 3.14 and 3.15, built from Debian's sources the first time
	$(ENV); export MIX_ENV=test; mix compile --warnings-as-errors; \
	for version in $(FREE_THREADED); do \
	  echo "== CPython $${version}t"; python=$$(scripts/python-free-threaded $$version); \
	  PYTHONX_TEST_UV_PYTHON="$$python" PYTHONX_TEST_PYTHON="$$python" PYTHONX_TEST_PYTHON_MINOR=$${version#*.} \
	    mix test $(TESTS) || failed="$${failed:-} $${version}t"; \
	done; \
	if [ -n "$${failed:-}" ]; then echo "failed on:$$failed" >&2; exit 1; fi

bench-startup: setup ## show where the time goes from uv_init to the first result
	$(ENV); mix run bench/startup.exs

bench-memory: setup ## show that memory stays flat over a million evaluations
	$(ENV); mix run bench/memory.exs

bench-parallel: setup ## compare threads, a pool and other nodes on three kinds of work
	$(ENV); mix run bench/parallel.exs

bench: setup ## measure conversions, evaluations and output against plain C loops
	$(ENV); mix run bench/run.exs

stress: setup ## everything at once, at random, from many processes: ten minutes, or STRESS_SECONDS
	$(ENV); mix run bench/stress.exs

chaos: setup ## a pool among crashes of every kind: ten minutes, CHAOS_SECONDS, or CHAOS_EACH of each
	$(ENV); mix run bench/chaos.exs

# Debian's Erlang has PropEr among its own libraries; another has to be told, once it is installed.
fuzz: ## random terms and structures through the conversions: 100,000 cases, or FUZZ_CASES
	scripts/setup fuzz
	$(ENV); elixir -pa "/usr/lib/erlang/lib/proper-*/ebin" -S mix run bench/fuzz.exs

sanitize: setup ## run the tests of native code with the address and undefined-behaviour sanitizers
	scripts/sanitize

# python-zig stands beside the Python that has zig, in whichever place scripts/setup has put or found both.
wheels: ## build loader, launcher and bridges for all platforms, or those of PLATFORMS and PYTHONS, on this machine
	scripts/setup wheels
	$(ENV); "$$(dirname "$$(command -v python-zig)")/python" -B scripts/wheels/build.py

lint: ## check the format and the style of Elixir, C, C++ and Python
	scripts/setup lint
	$(ENV); mix format --check-formatted
	$(ENV); mix compile --warnings-as-errors
	$(ENV); clang-format --dry-run -Werror $(NATIVE)
	$(ENV); ruff check $(PYTHON); ruff format --check $(PYTHON)
	python3 scripts/check_includes.py
	if scripts/setup wheels; then \
	  $(ENV); "$$(dirname "$$(command -v python-zig)")/python" -B scripts/wheels/check_macos.py; \
	else echo "lint: there is no zig, so nothing is compiled for macOS"; fi
	$(ENV); includes=$$(mix pythonx.build --make-env --python "$${PYTHONX_TEST_PYTHON:-python3}" | tail -n 1); \
	eval "env $$includes $(MAKE) -C c_src/loader tidy"; \
	$(MAKE) -C c_src/launcher tidy; \
	eval "env $$includes $(MAKE) -C c_src/worker -j$$(getconf _NPROCESSORS_ONLN) tidy"; \
	eval "env $$includes $(MAKE) -C c_src/bridge -j$$(getconf _NPROCESSORS_ONLN) tidy"

format: ## format Elixir, C, C++ and Python
	scripts/setup lint
	$(ENV); mix format; clang-format -i $(NATIVE); ruff check --fix $(PYTHON); ruff format $(PYTHON)

docs: ## write the API documentation and the guides to doc/
	scripts/setup docs
	$(ENV); mix compile; elixir $(EX_DOC) -S mix docs --warnings-as-errors

clean: ## delete what was built here; what is cached for the user stays
	rm -rf _build doc cover deps dist priv/bridge priv/bridge.lock priv/native priv/*.so priv/pythonx_launcher priv/*.key bench/build bench/results .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
