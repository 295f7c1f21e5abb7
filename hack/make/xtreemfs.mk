.PHONY: bench-xtreemfs
bench-xtreemfs: deps ## Measure a mount of XtreemFS beside a local directory (root, /dev/fuse; prints figure: {json})
	@node bench/xtreemfs.ts
