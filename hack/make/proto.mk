GENERATORS += generate-codecs

.PHONY: generate-codecs
generate-codecs: deps ## Regenerate the codecs from proto/xtreemfs/*.proto
	@node hack/generate-codecs.ts

GENERATORS += generate-site
.PHONY: generate-site
generate-site: deps ## Regenerate proto/src/site/generated from proto/site/peer.proto
	@node proto/src/site/generate.ts
