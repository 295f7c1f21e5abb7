.PHONY: demo down
demo: deps ## Bring up one site, install with Helm, show the Site: NAME=demo
	@node hack/demo/main.ts --name $(if $(filter command line environment,$(origin NAME)),$(NAME),demo)
down: deps ## Take the demo down again: NAME=demo
	@node e2e/sites/main.ts down --name $(if $(filter command line environment,$(origin NAME)),$(NAME),demo)

GENERATORS += generate-options
.PHONY: generate-options
generate-options: deps ## Regenerate the reference of the operator's options
	@node hack/generate-options.ts
