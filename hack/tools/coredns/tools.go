//go:build tools

// Package tools only pins test binaries; nothing imports it.
package tools

import (
	_ "github.com/coredns/coredns"
)
