//go:build tools

package orastools

import (
	_ "oras.land/oras/cmd/oras"
)
