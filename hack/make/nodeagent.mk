GENERATORS += generate-csi

.PHONY: generate-csi
generate-csi: deps ## Regenerate proto/src/csi/generated from proto/csi/*.proto
	@node proto/src/csi/generate.ts
