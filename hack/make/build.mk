.PHONY: bundle
bundle: deps ## Bundle each program into dist/<program>.mjs
	@node hack/bundle.ts
