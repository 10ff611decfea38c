//go:build tools

package olaregtools

import (
	_ "github.com/olareg/olareg/cmd/olareg"
)
