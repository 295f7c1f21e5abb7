# Every developer verb. `make help` lists them; a room's own verbs live in hack/make/ROOM.mk.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
JEST := node --experimental-vm-modules --disable-warning=ExperimentalWarning node_modules/jest/bin/jest.js
ROOM ?= .

include $(sort $(wildcard hack/make/*.mk))

.PHONY: help
help: ## List every verb with one line
	@grep -hE '^[a-zA-Z0-9_-]+:.*## ' $(MAKEFILE_LIST) | sort -u | awk -F':.*## ' '{printf "  %-22s %s\n", $$1, $$2}'
	@echo; echo 'New here? make demo, then docs/getting-started.md'

.PHONY: deps
deps: node_modules/.ready ## Install the npm packages that the lockfile names

node_modules/.ready: package.json package-lock.json .npmrc
	@command -v npm >/dev/null || { echo 'npm is missing: install Node.js 20 or newer (it brings npm), then run this again.' >&2; exit 1; }
	@# Not `npm ci`: it insists on lock entries for platforms that some registries don't carry. Versions and checksums are the lockfile's.
	npm install --no-save --no-progress --loglevel=error
	@touch $@

.PHONY: typecheck lint lint-room format layers dead-code
typecheck: deps ## Check types
	tsc -p .
lint: deps ## Type-aware lint and formatting check of everything
	eslint --cache --cache-location node_modules/.cache/eslint/ --max-warnings 0 .
	prettier --check --log-level warn --cache .
lint-room: deps ## Lint one folder: make lint-room ROOM=common
	eslint --cache --cache-location node_modules/.cache/eslint/ --max-warnings 0 $(ROOM)
	prettier --check --log-level warn $(ROOM)
format: deps ## Format the sources of one folder (ROOM=, default all)
	prettier --write --log-level warn $(ROOM)
	eslint --fix $(ROOM)
layers: deps ## Check that rooms import only what they may
	depcruise --config .dependency-cruiser.cjs --output-type err $(wildcard common crds proto xtreemfs selector operator nodeagent cli e2e bench hack charts)
dead-code: deps ## Find files, exports and dependencies that nobody uses
	knip

.PHONY: generate verify
generate: deps ## Regenerate everything that is generated (CRDs, codecs, chart, reference)
	@for step in $(GENERATORS); do echo "Generating with $$step"; $(MAKE) $$step; done
verify: deps ## Regenerate and fail on a difference; lint, types, layers, dead code
	@bash hack/verify.sh

.PHONY: unit sim envtest e2e test presubmit deflake
unit: deps ## Unit and property tests
	$(JEST) --selectProjects unit
sim: deps ## Simulations: many nodes in one process, one seed
	$(JEST) --selectProjects sim
envtest: deps ## Controllers against a real API server
	$(JEST) --selectProjects envtest --runInBand
e2e: deps ## User stories on real Kubernetes sites on this machine
	$(JEST) --selectProjects e2e reach --runInBand
presubmit: verify unit sim ## What to run before a commit
test: deps ## Everything: verify, unit, sim, envtest, e2e, reach
	@node hack/test.ts
deflake: deps ## Loop one test until it fails: make deflake TEST=path
	@n=0; while $(JEST) --runInBand $(TEST); do n=$$((n+1)); echo "passed $$n times"; done
