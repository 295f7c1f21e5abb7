GENERATORS += generate-crds

.PHONY: generate-crds
generate-crds: deps ## Regenerate the CRDs, their JSON schemas and the reference from crds/src
	@node hack/generate-crds.ts

.PHONY: bench-admission
bench-admission: deps ## What the admission policies add to making a pod: ACCOUNTS=10,1000,10000 SAMPLES=300
	@node bench/admission.ts
