# Every verb of the project. People, hooks and .ci/run call these targets and nothing else.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
COMPAT_VENV := .venv-compat
SCHEMA_VENV := .venv-schema
TORCH_VENV := .venv-torch
CLASSIC_VENV := .venv-classic
TF_VENV := .venv-tf
# Frameworks by environment: workers of different ones run side by side, and none is as large as all together.
EXTRAS_classic := catboost jax keras lightgbm mlflow openvino sklearn treelite xgboost
EXTRAS_tf := paddle tensorflow
EXTRAS_torch := diffusers easyocr fastai lightning sentence-transformers torch transformers
BIN := $(VENV)/bin
PY := $(BIN)/python

# Built Rust lives outside of the checkout so that the next clone starts warm; it may be deleted at any time.
CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/samovar
export CARGO_TARGET_DIR ?= $(CACHE)/target

CARGO_FUZZ_VERSION := 0.13.2
CARGO_FUZZ := $(CACHE)/cargo-fuzz-$(CARGO_FUZZ_VERSION)/bin/cargo-fuzz
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_FOUND := $(CACHE)/fuzz
FUZZ_SECONDS := 30
ENVIRONMENTS := classic tf torch
FUZZ_SEED := 0

SCHEMA_EXAMPLES := 50
SCHEMA_SEED := 0

# Engines and workers start often in tests: let Python keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE

UV := $(BIN)/uv
UV_INSTALL := $(UV) pip install --quiet --compile-bytecode
PYTEST := $(PY) -m pytest
CARGO_TEST_PACKAGES := --workspace --exclude samovar-py # conversions only; tested from Python

RUST_SOURCES := Cargo.toml Cargo.lock rust-toolchain.toml $(shell find crates proto -type f 2>/dev/null)
PYTHON_SOURCES := python tests benchmarks examples scripts
BUILT := $(VENV)/.built

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ build

.PHONY: setup
setup: $(VENV)/.ready ## Create .venv with the locked development tools

$(VENV)/.ready: constraints/dev.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' constraints/dev.txt)"
	$(UV_INSTALL) --python $(PY) --requirement constraints/dev.txt
	touch $@

.PHONY: build
build: $(BUILT) ## Build the extension module into .venv (nothing happens when no source changed)

$(BUILT): $(VENV)/.ready $(RUST_SOURCES) pyproject.toml
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --uv --quiet
	touch $@

.PHONY: wheel
wheel: setup ## Build one abi3 wheel into dist/
	rm -f dist/*.whl
	PIP_CONSTRAINT=constraints/dev.txt $(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	ls -l dist

.PHONY: lock
lock: setup ## Resolve pyproject.toml into constraints/*.txt anew
	lock() { $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url "$$@"; }; \
	lock pyproject.toml --group dev --output-file constraints/dev.txt; \
	lock --group compat --output-file constraints/compat.txt; \
	lock --group schema --output-file constraints/schema.txt; \
	lock pyproject.toml $(EXTRAS_torch:%=--extra %) --group torch --output-file constraints/torch.txt; \
	lock pyproject.toml $(EXTRAS_classic:%=--extra %) --group formats --output-file constraints/classic.txt; \
	lock pyproject.toml $(EXTRAS_tf:%=--extra %) --group formats --output-file constraints/tf.txt

##@ see

.PHONY: demo
demo: build ## Read the number plates of a street, and of PHOTO=car.jpg (ONCE=1 ends then, PORT=n picks the port)
	$(PY) -m scripts.demo $(if $(ONCE),--once) $(if $(PORT),--port $(PORT)) $(if $(PHOTO),"$(PHOTO)")

.PHONY: train
train: build $(TORCH_VENV)/.ready ## Train the networks of examples/plates anew: minutes, with the torch of make test-torch
	$(TORCH_VENV)/bin/python examples/plates/train.py $(ARGS)

.PHONY: bench
bench: build $(if $(QUICK)$(SMOKE),,wheel) ## Measure beside other engines: QUICK=1, ONLY=echo,plates, PEERS=triton,mosec, FRESH=1; see benchmarks/README.md
	cargo build --locked --release --quiet --package samovar-rate
	$(PY) -m benchmarks.run $(if $(QUICK),--quick) $(if $(SMOKE),--smoke) $(if $(FRESH),--fresh) \
		$(if $(ONLY),--only $(ONLY)) $(if $(PEERS),--peers $(PEERS))

.PHONY: faults
faults: build ## Harm engines under load and count what is lost: QUICK=1, ONLY=kill,drain, PEERS=triton, FRESH=1; see docs/reliability.md
	$(PY) -m benchmarks.faults.run $(if $(QUICK),--quick) $(if $(SMOKE),--smoke) $(if $(FRESH),--fresh) \
		$(if $(ONLY),--only $(ONLY)) $(if $(PEERS),--peers $(PEERS))

.PHONY: bench-guard
bench-guard: setup ## Count the instructions of the hot paths beside benchmarks/guard/counts.json (UPDATE=1 writes it)
	command -v valgrind > /dev/null || { echo "there is no valgrind: make packages installs it" >&2; exit 1; }
	cargo build --locked --profile guard --quiet --package samovar-guard
	$(PY) -m benchmarks.instructions $(if $(UPDATE),--update)

.PHONY: docs
docs: build ## Write docs/reference, check links and file names in the documents, build the Rust reference
	$(PY) -m scripts.reference
	$(PY) -m scripts.formats write
	$(PY) -m scripts.check_docs
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --workspace --no-deps --document-private-items
	echo "open $$CARGO_TARGET_DIR/doc/samovar_core/index.html"

##@ check

.PHONY: test
test: test-rust test-python ## Run every test that needs no Debian package and no other package's client

.PHONY: test-rust
test-rust: ## Run the tests of the Rust crates
	cargo test --locked --quiet $(CARGO_TEST_PACKAGES)

.PHONY: test-python
test-python: build ## Run the Python tests against real engines
	$(PYTEST) --ignore tests/browser --ignore tests/compat --ignore tests/formats --ignore tests/pytorch --ignore tests/schema $(ARGS)

.PHONY: test-unit
test-unit: build ## Run the tests that start no process
	$(PYTEST) tests/unit $(ARGS)

.PHONY: test-compat
test-compat: build $(COMPAT_VENV)/.ready ## Run third-party clients, from a .venv of their own, against the engine
	TEST_ENGINE_PYTHON=$(CURDIR)/$(PY) $(COMPAT_VENV)/bin/python -m pytest tests/compat $(ARGS)

$(COMPAT_VENV)/.ready: $(VENV)/.ready constraints/compat.txt
	test -x $(COMPAT_VENV)/bin/python || $(PYTHON) -m venv --without-pip $(COMPAT_VENV)
	$(UV_INSTALL) --python $(COMPAT_VENV)/bin/python --requirement constraints/compat.txt
	touch $@

.PHONY: test-schema
test-schema: build $(SCHEMA_VENV)/.ready ## Let schemathesis compare services with their documents (SCHEMA_EXAMPLES=, SCHEMA_SEED=)
	TEST_ENGINE_PYTHON=$(CURDIR)/$(PY) SCHEMA_EXAMPLES=$(SCHEMA_EXAMPLES) SCHEMA_SEED=$(SCHEMA_SEED) \
		$(SCHEMA_VENV)/bin/python -m pytest tests/schema $(ARGS)

$(SCHEMA_VENV)/.ready: $(VENV)/.ready constraints/schema.txt
	test -x $(SCHEMA_VENV)/bin/python || $(PYTHON) -m venv --without-pip $(SCHEMA_VENV)
	$(UV_INSTALL) --python $(SCHEMA_VENV)/bin/python --requirement constraints/schema.txt
	touch $@

.PHONY: test-browser
test-browser: build ## Look at the pages of services with Chromium (of make packages)
	command -v chromium > /dev/null || { echo "there is no chromium: make packages installs it" >&2; exit 1; }
	$(PYTEST) tests/browser $(ARGS)

.PHONY: test-torch
test-torch: build $(TORCH_VENV)/.ready ## Run what needs torch, 5 GB, in a .venv of its own (TORCH_INDEX=URL of smaller builds)
	$(TORCH_VENV)/bin/python -m pytest tests/pytorch $(ARGS)

# The constraints name what torch of PyPI needs; builds of another index need less. The engine under test is the checkout.
$(TORCH_VENV)/.ready: $(VENV)/.ready constraints/torch.txt
	test -x $(TORCH_VENV)/bin/python || $(PYTHON) -m venv --without-pip $(TORCH_VENV)
	$(UV_INSTALL) --python $(TORCH_VENV)/bin/python --constraint constraints/torch.txt \
		$(if $(TORCH_INDEX),--index $(TORCH_INDEX) --index-strategy unsafe-best-match) \
		--requirement pyproject.toml $(EXTRAS_torch:%=--extra %) --group torch
	echo $(CURDIR)/python > $$($(TORCH_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/checkout.pth
	touch $@

.PHONY: test-formats
test-formats: build $(CLASSIC_VENV)/.ready $(TF_VENV)/.ready $(TORCH_VENV)/.ready ## Serve every model format, by its framework, in three environments (ENVIRONMENTS=classic)
	rm -f build/formats/*.json
	failed=; for name in $(ENVIRONMENTS); do \
		.venv-$$name/bin/python -m pytest tests/formats/$$name $(ARGS) || failed="$$failed $$name"; \
	done; $(PY) -m scripts.formats results build/formats; test -z "$$failed"

$(CLASSIC_VENV)/.ready: constraints/classic.txt
$(TF_VENV)/.ready: constraints/tf.txt
$(CLASSIC_VENV)/.ready $(TF_VENV)/.ready: .venv-%/.ready: $(VENV)/.ready
	test -x .venv-$*/bin/python || $(PYTHON) -m venv --without-pip .venv-$*
	$(UV_INSTALL) --python .venv-$*/bin/python --constraint constraints/$*.txt \
		--requirement pyproject.toml $(EXTRAS_$*:%=--extra %) --group formats
	echo $(CURDIR)/python > $$(.venv-$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/checkout.pth
	touch $@

.PHONY: test-wheel
test-wheel: wheel ## Install the wheel into a fresh environment and serve a model from it
	bash scripts/test_wheel.sh $(PYTHON)

.PHONY: fuzz
fuzz: $(CARGO_FUZZ) ## Look FUZZ_SECONDS per target for bytes that break a parser (FUZZ_TARGETS=, FUZZ_INPUT=file tries one)
	@for target in $(FUZZ_TARGETS); do \
		FUZZ_SEED=$(FUZZ_SEED) bash scripts/fuzz.sh $(CARGO_FUZZ) $$target $(FUZZ_FOUND) $(FUZZ_SECONDS) $(FUZZ_INPUT); \
	done

$(CARGO_FUZZ):
	cargo install --locked --quiet --root $(CACHE)/cargo-fuzz-$(CARGO_FUZZ_VERSION) --version $(CARGO_FUZZ_VERSION) cargo-fuzz

.PHONY: lint
lint: lint-rust lint-python ## Run every linter; warnings are errors

# abi3: what is checked but not linked needs no interpreter, and so no rebuild when its path changes.
.PHONY: lint-rust
lint-rust docs: export PYO3_NO_PYTHON := 1
lint-rust docs: export PYO3_BUILD_EXTENSION_MODULE := 1
lint-rust: ## rustfmt and clippy
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo metadata --locked --quiet --format-version 1 --manifest-path fuzz/Cargo.toml > /dev/null
	cargo clippy --locked --quiet --workspace --all-targets -- -D warnings

.PHONY: lint-python
lint-python: build ## ruff, mypy, import contracts, stubtest, documents
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	$(BIN)/mypy
	PYTHONPATH=python $(BIN)/lint-imports --no-cache
	$(PY) -m mypy.stubtest samovar._core --allowlist scripts/stubtest-allowlist.txt
	$(PY) -m scripts.reference --check
	$(PY) -m scripts.formats check
	$(PY) -m scripts.check_docs

.PHONY: fmt
fmt: setup ## Format Rust and Python
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(BIN)/ruff check --fix --quiet --exit-zero $(PYTHON_SOURCES)
	$(BIN)/ruff format --quiet $(PYTHON_SOURCES)

##@ housekeeping

.PHONY: packages
packages: ## Install the Debian packages of the wider suites (wrk, h2load, nginx, valgrind, chromium); needs root or sudo
	bash scripts/install_packages.sh wrk nghttp2-client nginx valgrind chromium

.PHONY: clean
clean: ## Remove what was built in the checkout (the Rust cache stays: see CARGO_TARGET_DIR)
	rm -rf $(VENV) $(COMPAT_VENV) $(SCHEMA_VENV) $(TORCH_VENV) $(CLASSIC_VENV) $(TF_VENV) build dist target .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f python/samovar/_core*.so
	find python tests benchmarks examples scripts -name __pycache__ -prune -exec rm -rf {} +
