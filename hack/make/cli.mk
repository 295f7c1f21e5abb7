GENERATORS += generate-cli
PREFIX ?=

.PHONY: generate-cli install-cli
generate-cli: deps ## Regenerate the reference of xos from its commands
	@node hack/generate-cli.ts
install-cli: bundle ## Install xos and kubectl xos: PREFIX=~/.local
	@node hack/install-cli.ts --prefix "$(PREFIX)"

.PHONY: bench-xos-start
bench-xos-start: deps ## How long xos takes from start to end, beside kubectl (SAMPLES=30)
	@node bench/xos-start.ts
