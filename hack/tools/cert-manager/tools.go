//go:build tools

// Package tools only pins test binaries; nothing imports it.
package tools

import (
	_ "github.com/cert-manager/cert-manager/cmd/controller"
	_ "github.com/cert-manager/cert-manager/cmd/webhook"
	_ "github.com/cert-manager/cert-manager/cmd/cainjector"
)
