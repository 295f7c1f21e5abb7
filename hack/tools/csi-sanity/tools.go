//go:build tools

// Package tools only pins test binaries; nothing imports it.
package tools

import (
	_ "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"
)
