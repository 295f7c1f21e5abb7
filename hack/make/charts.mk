GENERATORS += generate-chart

.PHONY: generate-chart chart
generate-chart: deps ## Regenerate the Helm chart from charts/src
	@node charts/src/main.ts
chart: generate-chart ## Render, lint and pack the Helm chart into dist/
	@node hack/chart.ts
