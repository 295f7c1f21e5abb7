//go:build tools

// Package tools only pins test binaries; nothing imports it.
package tools

import (
	_ "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner"
)
