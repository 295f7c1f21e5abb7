.PHONY: demo down
demo: deps ## Bring up two sites, join them, do the main job as a member: NAME=demo SITES=2
	@node hack/demo/main.ts --name $(if $(filter command line environment,$(origin NAME)),$(NAME),demo) --sites $(if $(filter command line environment,$(origin SITES)),$(SITES),2)
down: deps ## Take the demo down again: NAME=demo
	@node e2e/sites/main.ts down --name $(if $(filter command line environment,$(origin NAME)),$(NAME),demo)

GENERATORS += generate-options
.PHONY: generate-options
generate-options: deps ## Regenerate the reference of the operator's options
	@node hack/generate-options.ts

.PHONY: bench-jobs
bench-jobs: deps ## GridJobs beside plain Jobs on 1,000 nodes of kwok: ARGS='--nodes 1000 --jobs 5000 --in-flight 10000'
	@node bench/jobs.ts $(ARGS)
