PUSH ?=

.PHONY: images
images: bundle ## Build our images, import them into running sites; PUSH=registry/prefix also pushes them
	@node hack/images/main.ts --push "$(PUSH)"
