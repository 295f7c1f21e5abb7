.PHONY: test-xtreemfs-mrc bench-xtreemfs-mrc
test-xtreemfs-mrc: deps ## Unit, property and crash tests of the metadata catalogue
	$(JEST) --selectProjects unit -w 1 xtreemfs/mrc
bench-xtreemfs-mrc: deps ## Durable creates, look-ups and listings of one metadata catalogue (1,000,000 files)
	@node bench/xtreemfs-mrc.ts
