GENERATORS += generate-csi

.PHONY: generate-csi
generate-csi: deps ## Regenerate proto/src/csi/generated from proto/csi/*.proto
	@node proto/src/csi/generate.ts

.PHONY: csi-sanity
csi-sanity: deps ## The tests of the CSI specification against the driver, with real FUSE (root, /dev/fuse; prints figure: {json})
	@node hack/csi-sanity.ts

.PHONY: bench-volume
bench-volume: deps ## Volumes in pods on a real site: pod start, throughput, memory, fail-over, provisioning (ARGS='--volumes 100 --pods 40')
	@node bench/volume.ts $(ARGS)
