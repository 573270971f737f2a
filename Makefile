# What a newcomer types. Everything that is needed is fetched by the program itself; see README.md.

PROGRAM = target/release/gofavorites
ARGS =
SOAK_S = 600
HISTORIES = 200

.PHONY: help run demo test soak linearizability lint doc fmt sqlx

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-17s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build, and run the whole platform on this machine until Ctrl-C (ARGS=--fresh starts over, ARGS="--topology leaf" has a hub and leaves)
	cargo build --release --locked
	$(PROGRAM) dev $(ARGS)

demo: ## Build, and tell the whole story once on servers of its own
	cargo build --release --locked
	$(PROGRAM) dev demo

test: ## Pass every test, on real servers; then look whether anything that was sent can be read
	cargo test --locked
	cargo test --locked --test it -- --ignored --nocapture suite_scan

soak: ## Strike at random for SOAK_S seconds (600) while everything is checked
	SOAK_S=$(SOAK_S) cargo test --locked --test it -- --ignored --nocapture soak

linearizability: ## Look for an order in HISTORIES histories (200) of many clients while faults run
	HISTORIES=$(HISTORIES) cargo test --locked --test it -- --ignored --nocapture linearizability

lint: ## Check format and lints
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings

doc: ## Build the documents of the code, warnings denied
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --no-deps --document-private-items

fmt: ## Format the code
	cargo fmt

sqlx: ## Write .sqlx anew: what Postgres says of each statement (after a change of migrations or SQL)
	.ci/sqlx
