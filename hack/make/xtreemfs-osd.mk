.PHONY: bench-xtreemfs-osd
bench-xtreemfs-osd: deps ## Measure the OSD: sequential and random I/O by RPC, direct and on a plain file
	@node bench/xtreemfs-osd.ts $(FOLDER)
.PHONY: bench-xtreemfs-osd-failover
bench-xtreemfs-osd-failover: deps ## Measure fail-over of a replicated file, planned and after a crash
	@node bench/xtreemfs-osd-failover.ts
