GENERATORS += generate-crds

.PHONY: generate-crds
generate-crds: deps ## Regenerate the CRDs, their JSON schemas and the reference from crds/src
	@node hack/generate-crds.ts
