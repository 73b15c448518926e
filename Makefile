# run, bill-run, test, model, lint, documents, contract, bench, scale, package, check-deploy; fmt and sqlx correct what lint finds;
# requirements pins the Python packages; release-digests freezes the revisions of a release.
PYTHON := .venv/bin/python
WITH_DATABASE := $(PYTHON) dev/with_database.py

.PHONY: run test model lint fmt sqlx documents contract package check-deploy bench bench-quick bench-report scale bill-run requirements \
	release-digests

# The whole API on localhost:9000, until Ctrl-C. PORT=9100 chooses another port.
run: .venv/installed
	@PORT=$(PORT) exec $(PYTHON) dev/run.py

# The tests of all packages, on functions that the same build makes, with their failpoints.
CARGO_TEST := cargo test --locked --workspace --features charge/failpoints

# The database's own time zone, which must not matter: naive timestamps mean UTC. .ci/run tests the schema, dates and months
# with UTC as well.
TEST_TIMEZONE := America/Sao_Paulo
# Tests run at the same time. They are more than the cores, because a test often waits for a deadline.
TEST_THREADS := 8
# SUITE=api runs one suite. ONLY=eligible runs the tests with this in their names, here and in documents, contract
# and check-deploy.
test: .venv/installed
	TEST_TIMEZONE=$(TEST_TIMEZONE) RUST_TEST_THREADS=$(TEST_THREADS) $(WITH_DATABASE) \
		$(CARGO_TEST) $(addprefix --test ,$(SUITE)) -- $(ONLY)

# Part of `make test`: the model of the charge protocol, explored, and each database function, compared with it.
model:
	$(MAKE) test SUITE=model

lint: .venv/installed
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	$(PYTHON) migrations/released.py
	$(WITH_DATABASE) $(PYTHON) dev/sqlx_cache.py --check

fmt: .venv/installed
	cargo fmt
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

# Describes our SQL for builds without a database.
sqlx: .venv/installed
	$(WITH_DATABASE) $(PYTHON) dev/sqlx_cache.py

# Writes the digests of what is released now into migrations/released.json, under the release that CHANGELOG.md has.
release-digests: .venv/installed
	$(PYTHON) migrations/released.py --add

NAMED := $(if $(ONLY),-k '$(ONLY)')

# The checks that need nothing that runs: openapi.yaml, and the pages and lists that must agree with it. It takes seconds.
documents: .venv/installed tests/contract/.venv/installed tests/contract/node_modules/.package-lock.json
	tests/contract/.venv/bin/pytest tests/contract/test_document.py tests/contract/test_names.py $(NAMED)

# Judges written by others hold the running API to openapi.yaml.
contract: .venv/installed tests/contract/.venv/installed tests/contract/node_modules/.package-lock.json
	$(WITH_DATABASE) $(PYTHON) dev/with_api.py tests/contract/.venv/bin/pytest tests/contract $(NAMED)

# Makes what `serverless deploy` would upload, without an AWS account. It packages an example if the stage has no configuration.
STAGE := dev
package: .venv/installed node_modules/.package-lock.json
	node_modules/.bin/serverless package --stage $(STAGE) \
		$(if $(wildcard $(STAGE)_config.json),,--param configs=deploy/example)
	@ls -l target/lambda/*.zip .serverless/*template*.json

# Packages each kind of stage, has others judge templates, and deploys stages to an emulator that runs them.
check-deploy: .venv/installed node_modules/.package-lock.json tests/contract/.venv/installed \
		tests/contract/node_modules/.package-lock.json tests/deploy/serverless-3/node_modules/.package-lock.json \
		$(foreach name,pytest ministack checkov,tests/deploy/.venv/$(name)/installed)
	$(WITH_DATABASE) tests/deploy/.venv/pytest/bin/pytest tests/deploy $(NAMED)

# pip takes no file whose digest is not in the requirements.
PIP_OPTIONS := --quiet --disable-pip-version-check --require-hashes
.venv/installed: requirements.txt
	@echo "packages: installing $< into .venv"
	@python3 -m venv .venv
	@.venv/bin/pip install $(PIP_OPTIONS) -r requirements.txt
	@touch $@

tests/deploy/.venv/%/installed: tests/deploy/requirements/%.txt
	python3 -m venv $(@D)
	$(@D)/bin/pip install $(PIP_OPTIONS) -r $<
	touch $@

node_modules/.package-lock.json: package.json package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	touch $@

tests/contract/.venv/installed: tests/contract/requirements.txt
	python3 -m venv tests/contract/.venv
	tests/contract/.venv/bin/pip install $(PIP_OPTIONS) -r tests/contract/requirements.txt
	touch $@

tests/contract/node_modules/.package-lock.json tests/deploy/serverless-3/node_modules/.package-lock.json: \
		%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund --loglevel error
	touch $@

# Measures the release binaries against floors, and prints every bar with its verdict. bench-report writes docs/.
bench: .venv/installed
	$(PYTHON) dev/bench.py

bench-quick: .venv/installed
	$(PYTHON) dev/bench.py --quick

bench-report: .venv/installed
	$(PYTHON) dev/bench.py --report

# The operators' command: make bill-run ARGS='charge --api http://localhost:9000'
bill-run:
	@cargo run --locked --quiet --bin bill-run -- $(ARGS)

# Hundreds of function processes, through PgBouncer over 20 connections and then directly, while an operator truncates.
scale: .venv/installed
	$(PYTHON) dev/scale.py

# Pins the packages of each requirements.in and all that they need, with the digests of each release's files. A version stays
# until its line is deleted. The root's packages run on Python 3.10 or later, those of the checks on 3.11 or later.
COMPILE := tests/deploy/.venv/uv/bin/uv pip compile --quiet --universal --generate-hashes --no-annotate \
	--custom-compile-command 'make requirements'
requirements: tests/deploy/.venv/uv/installed
	$(COMPILE) --python-version 3.10 requirements.in --output-file requirements.txt
	$(foreach checks,tests/contract/requirements $(basename $(wildcard tests/deploy/requirements/*.in)), \
		$(COMPILE) --python-version 3.11 $(checks).in --output-file $(checks).txt &&) true
