//go:build tools

// Package tools only pins test binaries; nothing imports it.
package tools

import (
	_ "helm.sh/helm/v4/cmd/helm"
)
