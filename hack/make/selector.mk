GENERATORS += generate-selector

.PHONY: generate-selector bench-selector
generate-selector: deps ## Regenerate proto/src/selector/generated from proto/selector/selector.proto
	@node proto/src/selector/generate.ts

bench-selector: deps ## The selection overlay in simulation beside a central index: NODES=100000 DISTRIBUTIONS=uniform SEED=1
	@node --max-old-space-size=11000 --max-semi-space-size=64 --expose-gc bench/selector.ts
