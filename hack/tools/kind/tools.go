//go:build tools

// Package tools only pins test binaries; nothing imports it.
package tools

import (
	_ "sigs.k8s.io/kind"
)
