# What a newcomer types. Everything that is needed is fetched by the program itself; see README.md.

PROGRAM = target/debug/gofavorites
ARGS =
SOAK_S = 600
HISTORIES = 200
BENCH_S = 30
FUZZ_S = 15
# Tests wait for servers more than they compute.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

.PHONY: help run demo test soak hostile linearizability runbooks fuzz bench nightly lint doc book spelling deploy-check contract contract-check settings fmt sqlx image compose dist

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-17s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build, and run the complete platform on this machine until Ctrl-C (ARGS=--fresh starts over, ARGS=--tls uses TLS, ARGS="--topology leaf" has a hub and leaves)
	cargo build --locked
	$(PROGRAM) dev $(ARGS)

demo: ## Build, and run a scripted end-to-end demo on temporary servers
	cargo build --locked
	$(PROGRAM) dev demo

test: ## Run every test against real servers, then scan what the servers stored for plaintext
	cargo test --locked
	cargo test --locked --test it -- --ignored --nocapture suite_scan

image: ## Build the container image, and check it
	.ci/image

compose: ## Run docker-compose.yml, play the tour on it, and kill parts of it: no acknowledged write is lost
	.ci/compose

soak: ## Inject random faults for SOAK_S seconds (600) while everything is checked
	SOAK_S=$(SOAK_S) cargo test --locked --test it -- --ignored --nocapture soak

hostile: ## Measure what ordinary callers notice of ten owners at their limits, and the worker's memory, with the shipped build
	cargo build --locked --release
	HOSTILE_PROGRAM=$${CARGO_TARGET_DIR:-target}/release/gofavorites cargo test --locked --test it -- --ignored --nocapture ten_hostile_owners

linearizability: ## Check that HISTORIES histories (200) of concurrent clients under faults are linearizable
	HISTORIES=$(HISTORIES) cargo test --locked --test it -- --ignored --nocapture linearizability

runbooks: ## Play each runbook of docs/runbooks.md on real servers, and print how long it took
	@mkdir -p target
	@RUST_TEST_THREADS=1 cargo test --locked --test it -- --ignored --nocapture runbook_ >target/runbooks.log 2>&1; \
	  code=$$?; grep -E '^runbook: |^test result' target/runbooks.log; [ $$code = 0 ] || tail -n 60 target/runbooks.log; exit $$code

fuzz: ## Fuzz each reader of foreign bytes for FUZZ_S seconds (15), guided by coverage
	.ci/fuzz $(FUZZ_S)

bench: ## Measure the standard set with the shipped build, BENCH_S seconds (30) each, and write docs/benchmarks.md with its pictures
	.ci/bench $(BENCH_S)

nightly: ## Run what is too long for .ci/run: the tests with all cores busy, a long soak, hostile owners, 1,000 histories, the runbooks, two builds compared, the containers
	THOROUGH=1 .ci/busy $(MAKE) --no-print-directory test
	$(MAKE) --no-print-directory soak
	$(MAKE) --no-print-directory hostile
	$(MAKE) --no-print-directory linearizability HISTORIES=1000
	$(MAKE) --no-print-directory runbooks
	$(MAKE) --no-print-directory fuzz FUZZ_S=60
	$(MAKE) --no-print-directory compose
	.ci/dist --twice

dist: ## Build the program as it is shipped, pack it into target/dist with its documents, and check the archive
	.ci/dist

lint: ## Check format and lints: of everything, of the shipped program, and of the libraries alone
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	cargo clippy --locked --no-default-features --features server -- --deny warnings
	cargo clippy --locked --no-default-features --features client --lib -- --deny warnings
	cargo clippy --locked --no-default-features --features feed --lib --examples -- --deny warnings

doc: ## Build the documentation of the code, warnings denied
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --no-deps --document-private-items

book: ## Build the documents as a book in target/book, and check its links
	.ci/book

spelling: ## Check the spelling of everything, with the project's own dictionary
	.ci/spelling

deploy-check: ## Check the manifests, the units and the alerts in deploy/, and the metrics of a platform
	.ci/deploy

contract: ## Write nats/asyncapi.yaml, after a change of an operation or a schema
	cargo build --locked
	$(PROGRAM) contract >target/asyncapi.yaml && mv target/asyncapi.yaml nats/asyncapi.yaml

contract-check: ## Check nats/asyncapi.yaml with the public AsyncAPI parser
	.ci/contract

settings: ## Write the tables of docs/settings.md, after a change of a setting or of its comment
	UPDATE_SETTINGS=1 cargo test --locked --lib settings_page

fmt: ## Format the code
	cargo fmt

sqlx: ## Rewrite .sqlx, what Postgres says about each statement, after a change of migrations or SQL
	.ci/sqlx
