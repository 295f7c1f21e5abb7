GENERATORS += generate-codecs

.PHONY: generate-codecs
generate-codecs: deps ## Regenerate the codecs from proto/xtreemfs/*.proto
	@node hack/generate-codecs.ts
