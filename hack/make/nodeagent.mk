GENERATORS += generate-csi

.PHONY: generate-csi
generate-csi: deps ## Regenerate proto/src/csi/generated from proto/csi/*.proto
	@node proto/src/csi/generate.ts

.PHONY: csi-sanity
csi-sanity: deps ## The tests of the CSI specification against the driver, with real FUSE (root, /dev/fuse; prints figure: {json})
	@node hack/csi-sanity.ts
