.PHONY: interop
interop: deps ## XtreemFS together with upstream's programs: XTREEMOS_UPSTREAM_BIN=FOLDER XTREEMOS_UPSTREAM_JAR=FILE (root)
	$(JEST) --selectProjects envtest --runInBand e2e/interop
