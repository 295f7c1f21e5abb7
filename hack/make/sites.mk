SITES ?= 1
NODES ?= 2
NAME ?= dev
PROVIDER ?= local

.PHONY: sites sites-status sites-down
sites: deps ## Start real Kubernetes sites on this machine: SITES=1 NODES=2 NAME=dev PROVIDER=local
	@node e2e/sites/main.ts up --name $(NAME) --sites $(SITES) --nodes $(NODES) --provider $(PROVIDER)
sites-status: deps ## What runs at the sites, since when, with which kubeconfig
	@node e2e/sites/main.ts status
sites-down: deps ## End the sites of NAME and remove everything of them
	@node e2e/sites/main.ts down --name $(NAME) --provider $(PROVIDER)

.PHONY: bench-sites
bench-sites: deps ## How long sites take to start: SITES=1 NODES=2 (COLD=1: with empty caches)
	@node bench/sites-start.ts --sites $(SITES) --nodes $(NODES) $(if $(COLD),--cold)
