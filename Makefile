# Everything a person does with Reprise. `make` alone lists it.
SHELL := /bin/bash
PRESET ?= release
JOBS ?= $(shell nproc)
TRIALS ?= 9800
BIN := build/$(PRESET)/bin
CONFIGURE := docker/setup/configure.sh

.DEFAULT_GOAL := help
.PHONY: help setup build build-all demo run test bench bench-peers paper exactness verify-demo verify-engine verify-cache verify-bench verify-cuda format lint tidy sanitize clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: ## install what is missing: Debian packages, libtorch, models
	@docker/setup/setup.sh

build: setup ## build the server and the client
	@$(CONFIGURE) $(PRESET)
	@echo "== Building reprise-server and reprise in build/$(PRESET)"
	@cmake --build build/$(PRESET) -j $(JOBS) --target reprise-server reprise

build-all: setup ## build everything, tests and benchmarks included
	@$(CONFIGURE) $(PRESET)
	@echo "== Building everything in build/$(PRESET)"
	@cmake --build build/$(PRESET) -j $(JOBS)

demo: build ## run the paper's flow on SmolLM2: prompts warmed, then asked cold and warm
	@BIN=$(BIN) deploy/demo.sh

run: build ## start the server in the foreground with its default configuration (DEVICE=cuda PRESET=cuda: on a GPU)
	@exec $(BIN)/reprise-server $(if $(filter cuda,$(DEVICE)),--set model.device=CUDA)

test: build-all ## run every test
	@echo "== Running the tests"
	@started=$$SECONDS; ctest --test-dir build/$(PRESET) --output-on-failure -j $(JOBS) && \
	  echo "== Tests took $$((SECONDS - started)) s"

bench: build-all ## measure time to first token and overhead against a server of its own
	@BIN=$(BIN) deploy/bench.sh

bench-peers: build-all ## measure engine and server beside llama.cpp, CTranslate2, transformers, torch; writes docs/benchmarks.md (QUICK=1: a part)
	@tests/bench/peers/setup.sh
	@.venv-peers/bin/python tests/bench/peers/models.py
	@docker/setup/install-oracle.sh
	@.venv-oracle/bin/python tests/bench/peers/load.py $(if $(filter-out 0,$(QUICK)),,--page docs/benchmarks.md)
	@.venv-peers/bin/python tests/bench/peers/peers.py

paper: build-all ## run the paper's experiment on two models, write results/*.csv and docs/paper.md (about half an hour)
	@docker/setup/install-oracle.sh
	@BIN=$(BIN) .venv-oracle/bin/python tests/bench/paper/paper.py --page docs/paper.md

exactness: build-all ## try the exactness contract at random, TRIALS times (9800)
	@$(BIN)/exactness_trials $(TRIALS) 200

verify-demo: setup ## run the acceptance checks (QUICK=1: under two minutes)
	@docker/setup/install-packages.sh verify
	@docker/setup/install-oracle.sh
	@$(MAKE) --no-print-directory build-all
	@python3 tests/verify/verify_demo.py

verify-engine: setup ## check the engine: exactness, speed, memory (QUICK=1: under two minutes)
	@docker/setup/install-packages.sh verify
	@docker/setup/install-oracle.sh
	@$(MAKE) --no-print-directory build-all
	@python3 tests/verify/verify_engine.py

verify-cache: setup ## check the cache: crash safety, faults, tenants, speed (QUICK=1: under two minutes)
	@docker/setup/install-packages.sh verify
	@docker/setup/install-oracle.sh
	@$(MAKE) --no-print-directory build-all
	@python3 tests/verify/verify_cache.py

verify-bench: setup ## check the load test and what operators look at (QUICK=1: under two minutes)
	@docker/setup/install-packages.sh verify
	@docker/setup/install-oracle.sh
	@$(MAKE) --no-print-directory build-all
	@python3 tests/verify/verify_bench.py

verify-cuda: ## check the server and its kernels on an NVIDIA GPU (QUICK=1; PART=1, 2 or 3: a third, under eight minutes)
	@$(MAKE) --no-print-directory build-all PRESET=cuda
	@REPRISE_BIN=build/cuda/bin CUDA_BIN=build/cuda/bin python3 tests/verify/verify_cuda.py

format: ## format our C++ sources in place
	@docker/setup/install-packages.sh ci
	@tests/checks/format.sh --fix

lint: ## check layers, formatting and protos
	@docker/setup/install-packages.sh build ci
	@python3 tests/checks/layers.py
	@tests/checks/format.sh
	@tests/checks/protos.sh

tidy: setup ## run clang-tidy on our C++ sources
	@docker/setup/install-packages.sh ci
	@tests/checks/tidy.sh

sanitize: setup ## run the tests under ASan with UBSan, then under TSan
	@tests/checks/sanitize.sh asan
	@tests/checks/sanitize.sh tsan

clean: ## remove what was built (keeps .venv and what bench-peers built)
	@[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name peers -exec rm -rf {} +
