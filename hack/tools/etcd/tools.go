//go:build tools

// Package tools only pins test binaries; nothing imports it.
package tools

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
