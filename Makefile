# What there is to do: run, test, lint; fmt and sqlx mend what lint finds.
PYTHON := .venv/bin/python
BESIDE_A_DATABASE := $(PYTHON) dev/with_database.py

.PHONY: run test lint fmt sqlx

# The whole API on localhost:9000, until Ctrl-C. PORT=9100 puts it elsewhere.
run: .venv/installed
	@PORT=$(PORT) exec $(PYTHON) dev/run.py

# Naive timestamps mean UTC whatever the database's own time zone is, so everything is tried in two.
test: .venv/installed
	TEST_TIMEZONE=UTC $(BESIDE_A_DATABASE) cargo test --locked --workspace
	TEST_TIMEZONE=America/Sao_Paulo $(BESIDE_A_DATABASE) cargo test --locked -p api-tests

lint: .venv/installed
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	$(BESIDE_A_DATABASE) $(PYTHON) dev/sqlx_cache.py --check

fmt: .venv/installed
	cargo fmt
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

# Describes our SQL anew, for builds without a database.
sqlx: .venv/installed
	$(BESIDE_A_DATABASE) $(PYTHON) dev/sqlx_cache.py

.venv/installed: requirements.txt
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# The release binaries next to their floors: a table of every bar with its verdict. bench-report writes it into docs/.
.PHONY: bench bench-quick bench-report
bench: .venv/installed
	$(PYTHON) dev/bench.py

bench-quick: .venv/installed
	$(PYTHON) dev/bench.py --quick

bench-report: .venv/installed
	$(PYTHON) dev/bench.py --report
