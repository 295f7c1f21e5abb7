.PHONY: unit-xtreemfs-rpc fuzz-xtreemfs-rpc bench-xtreemfs-rpc
unit-xtreemfs-rpc: deps ## Unit tests of XtreemFS's codecs, RPC, service frame and DIR
	$(JEST) --selectProjects unit --runInBand proto xtreemfs/rpc xtreemfs/service xtreemfs/dir
fuzz-xtreemfs-rpc: deps ## A million random and damaged frames at an RPC server
	XTREEMOS_FUZZ_FRAMES=1000000 $(JEST) --selectProjects unit --runInBand xtreemfs/rpc/fuzz
bench-xtreemfs-rpc: deps ## RPC round trips per second between two processes
	@node bench/xtreemfs-rpc.ts
