# Everyday commands. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help run cluster setup test check-fast check-cluster check-resume chaos check-chaos-mutations check-ops-fast check-ops lint conformance bench bench-cluster fuzz

# More arguments for the node, e.g. make run ARGS='--listen 127.0.0.1:9000'
ARGS ?=
# Checkouts of the official protocol repositories, for make conformance
ENGINE_IO_PROTOCOL ?=
SOCKET_IO_PROTOCOL ?=
# For make fuzz: how long each target runs, and a toolchain that has the sanitizers
FUZZ_SECONDS ?= 60
FUZZ_TOOLCHAIN ?= nightly

# The checks of the operations files, in the environment that scripts/operations-tools.sh made
OPERATIONS := cd tests/operations && tools/venv/bin/python -m pytest

help: ## Lists these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-22s %s\n' "$$name" "$$text"; done

run: ## Builds and starts a node; it prints the address of the demo page
	@scripts/setup.sh --build
	cargo run --quiet --release --bin vestibule -- serve $(ARGS)

cluster: setup ## Three nodes on Redis, Kafka and PostgreSQL behind HAProxy, on this machine; Ctrl-C ends it
	cargo build --quiet --release --bin vestibule --example cluster
	target/release/examples/cluster $(ARGS)

setup: ## Installs what building and testing need and this machine lacks
	@scripts/setup.sh

test: setup ## Runs all tests, with real clients and a real browser
	cargo test --no-fail-fast
	node --test --test-concurrency=1 tests/conformance/*.test.js
	$(OPERATIONS) fast

check-fast: ## Compiles everything and runs the tests that need no node
	cargo check --all-targets
	cargo test --lib --test tidy

check-cluster: setup ## Minutes of load on a cluster while each of its servers fails; prints what was counted
	cargo test --release --test gateway -- --ignored cluster --skip crowd --nocapture --test-threads=1

check-resume: setup ## Kills the node of 2,000 clients, twenty times; prints who came back, after how long, and what they missed
	cargo test --release --test gateway -- --ignored two_thousand_clients --nocapture

chaos: setup ## Breaks every part of a cluster while stock clients talk, and judges what they saw; ARGS='--scenario nodes --seed 7 --seconds 60'
	cargo build --quiet --release --bin vestibule --example servers
	node tests/chaos/run.mjs $(ARGS)

check-chaos-mutations: setup ## Shows that the checker finds mistakes that are made on purpose
	cargo build --quiet --bin vestibule --features mutations
	cp target/debug/vestibule target/debug/vestibule-mutations
	cargo build --quiet --bin vestibule --example servers
	node tests/chaos/mutations.mjs

check-ops-fast: setup ## Chart, compose, rules, dashboards, balancers, as far as they can be judged without running
	cargo build --quiet
	$(OPERATIONS) fast

check-ops: setup ## Balancers, dashboards, alert drills, backups and a rollout against running clusters
	cargo build --quiet --bin vestibule --example cluster
	$(OPERATIONS) live -s

lint: ## Formatting, clippy and documentation, with warnings as errors
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps

conformance: setup ## The wire protocols; ENGINE_IO_PROTOCOL=DIR SOCKET_IO_PROTOCOL=DIR adds the official suites
	cargo build --release --example conformance
	node --test --test-concurrency=1 tests/conformance/*.test.js
ifneq ($(and $(ENGINE_IO_PROTOCOL),$(SOCKET_IO_PROTOCOL)),)
	scripts/official-suites.sh $(ENGINE_IO_PROTOCOL) $(SOCKET_IO_PROTOCOL)
endif

bench: setup ## Measures this node and Node's socket.io in one run
	node bench/run.mjs $(ARGS)

bench-cluster: setup ## Measures three nodes on Redis, Kafka and PostgreSQL behind HAProxy
	node bench/cluster.mjs $(ARGS)

fuzz: ## Fuzzes each target in fuzz/ for FUZZ_SECONDS
	cd fuzz && for target in $$(cargo +$(FUZZ_TOOLCHAIN) fuzz list); do \
		cargo +$(FUZZ_TOOLCHAIN) fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done
