.PHONY: bench-vo
bench-vo: deps ## What virtual organizations cost: members, changes, suspension, credentials (ARGS='--only members')
	@node bench/vo.ts $(ARGS)
