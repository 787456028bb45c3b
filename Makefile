# Everything a person or a machine does with this repository. `make help` lists it.
# The recipes are scripts, so that paths with spaces, a missing terminal and a missing stdin are their matter and testable there.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup rocksdb demo test lint purity bench release redis-suite clients soak

# Given to the program that a target runs: make demo ARGS="--detach", make test ARGS="-p crdt", make soak ARGS="--seeds 0..100".
ARGS ?=
# Three regions of three nodes with the latencies of Virginia, Frankfurt and Singapore.
TOPOLOGY ?= --regions us,eu,ap --nodes 3 --rtt us-eu=80ms,us-ap=150ms,eu-ap=200ms

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  ARGS="..." is handed on: make demo ARGS="--detach", make test ARGS="-p crdt", make redis-suite ARGS="unit/expire".'

setup: ## what a fresh Debian or Ubuntu machine needs: packages, and RocksDB built once (10 minutes on 2 cores)
	@scripts/setup.sh

rocksdb: ## only the RocksDB library, into the cache folder
	@scripts/rocksdb.sh build

demo: release ## three writable regions of three nodes each, in front until Ctrl-C (redis-cli -p 7000 … 7008)
	@exec scripts/demo.sh $(TOPOLOGY) $(ARGS)

test: setup ## all tests but the long ones: unit, property, simulator, end-to-end, doc
	@scripts/with-rocksdb.sh scripts/test.sh $(ARGS)

lint: setup ## formatting, clippy, purity of the core, shape of the code; licences and shell scripts when their tools are installed
	@scripts/with-rocksdb.sh scripts/lint.sh

purity: ## the core builds without the server feature and depends on nothing impure
	@scripts/purity.sh

release: setup ## meridian and region-sim, optimised, into the target folder's release/
	@scripts/with-rocksdb.sh scripts/release.sh

bench: release ## figures beside Redis, set sizes, quorums beside etcd, replication lag
	@scripts/with-rocksdb.sh scripts/bench/all.sh $(ARGS)

redis-suite: release ## Redis's own test suite against a node; fails on what is not in scripts/redis-suite/expected-failures.txt
	@scripts/redis-suite.sh $(ARGS)

clients: release ## redis-cli, redis-benchmark and redis-py against a node, and random commands beside redis-server
	@scripts/clients.sh $(ARGS)

soak: release ## the long tier: ten thousand seeds, chaos, the end-to-end tests twenty times
	@scripts/with-rocksdb.sh scripts/soak.sh $(ARGS)
