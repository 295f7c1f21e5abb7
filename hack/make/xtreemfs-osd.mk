.PHONY: bench-xtreemfs-osd
bench-xtreemfs-osd: deps ## Measure the OSD: sequential and random I/O by RPC, direct and on a plain file
	@node bench/xtreemfs-osd.ts $(FOLDER)
