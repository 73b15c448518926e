# run, bill-run, test, model, lint, contract, bench, scale, package, check-deploy; fmt and sqlx correct what lint finds;
# requirements pins the Python packages.
PYTHON := .venv/bin/python
WITH_DATABASE := $(PYTHON) dev/with_database.py

.PHONY: run test model lint fmt sqlx contract package check-deploy bench bench-quick bench-report scale bill-run requirements

# The whole API on localhost:9000, until Ctrl-C. PORT=9100 chooses another port.
run: .venv/installed
	@PORT=$(PORT) exec $(PYTHON) dev/run.py

# The tests of all packages, on functions that the same build makes, with their failpoints.
CARGO_TEST := cargo test --locked --workspace --features charge/failpoints

# The database's own time zone, which must not matter: naive timestamps mean UTC. .ci/run tests with UTC as well.
TEST_TIMEZONE := America/Sao_Paulo
# Tests run at the same time. They are more than the cores, because a test often waits for a deadline.
TEST_THREADS := 8
# TESTS='--test api' runs one suite, TESTS='--test api -- eligible' the tests with this in their names.
TESTS :=
test: .venv/installed
	TEST_TIMEZONE=$(TEST_TIMEZONE) RUST_TEST_THREADS=$(TEST_THREADS) $(WITH_DATABASE) $(CARGO_TEST) $(TESTS)

# Part of `make test`: the model of the charge protocol, explored, and each database function, compared with it.
model: .venv/installed
	$(WITH_DATABASE) $(CARGO_TEST) --test model

lint: .venv/installed
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	$(WITH_DATABASE) $(PYTHON) dev/sqlx_cache.py --check

fmt: .venv/installed
	cargo fmt
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

# Describes our SQL for builds without a database.
sqlx: .venv/installed
	$(WITH_DATABASE) $(PYTHON) dev/sqlx_cache.py

# Judges written by others hold the running API to openapi.yaml.
contract: .venv/installed contract/.venv/installed contract/node_modules/.package-lock.json
	$(WITH_DATABASE) $(PYTHON) dev/with_api.py contract/.venv/bin/pytest contract

# What `serverless deploy` would upload, without an AWS account. It packages an example if the stage has no configuration.
STAGE := dev
package: .venv/installed node_modules/.package-lock.json
	node_modules/.bin/serverless package --stage $(STAGE) \
		$(if $(wildcard $(STAGE)_config.json),,--param configs=deploy/example)
	@ls -l target/lambda/*.zip .serverless/*template*.json

# Packages each kind of stage, has others judge templates, and deploys stages to an emulator that runs them.
check-deploy: .venv/installed node_modules/.package-lock.json contract/.venv/installed \
		contract/node_modules/.package-lock.json deploy/serverless-3/node_modules/.package-lock.json \
		$(foreach name,pytest ministack checkov,deploy/.venv/$(name)/installed)
	$(WITH_DATABASE) deploy/.venv/pytest/bin/pytest deploy

# pip takes no file whose digest is not in the requirements.
PIP_OPTIONS := --quiet --disable-pip-version-check --require-hashes
.venv/installed: requirements.txt
	@echo "packages: installing $< into .venv"
	@python3 -m venv .venv
	@.venv/bin/pip install $(PIP_OPTIONS) -r requirements.txt
	@touch $@

deploy/.venv/%/installed: deploy/requirements/%.txt
	python3 -m venv $(@D)
	$(@D)/bin/pip install $(PIP_OPTIONS) -r $<
	touch $@

node_modules/.package-lock.json: package.json package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	touch $@

contract/.venv/installed: contract/requirements.txt
	python3 -m venv contract/.venv
	contract/.venv/bin/pip install $(PIP_OPTIONS) -r contract/requirements.txt
	touch $@

contract/node_modules/.package-lock.json deploy/serverless-3/node_modules/.package-lock.json: \
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
	@cargo run --locked --quiet -p bill-run -- $(ARGS)

# Hundreds of function processes, through PgBouncer over 20 connections and then directly, while an operator truncates.
scale: .venv/installed
	$(PYTHON) dev/scale.py

# Pins the packages of each requirements.in and all that they need, with the digests of each release's files. A version stays
# until its line is deleted. The root's packages run on Python 3.10 or later, those of the checks on 3.11 or later.
COMPILE := deploy/.venv/uv/bin/uv pip compile --quiet --universal --generate-hashes --no-annotate \
	--custom-compile-command 'make requirements'
requirements: deploy/.venv/uv/installed
	$(COMPILE) --python-version 3.10 requirements.in --output-file requirements.txt
	$(foreach checks,contract/requirements $(basename $(wildcard deploy/requirements/*.in)), \
		$(COMPILE) --python-version 3.11 $(checks).in --output-file $(checks).txt &&) true
