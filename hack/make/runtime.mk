.PHONY: bench-runtime
bench-runtime: deps ## Our controller runtime beside Go's controller-runtime on one API server (needs Go)
	@node bench/runtime.ts $(ARGS)
