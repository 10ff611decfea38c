//go:build tools

package etcdtools

import (
	_ "go.etcd.io/etcd/server/v3"
)
