//go:build tools

package distributiontools

import (
	_ "github.com/distribution/distribution/v3/cmd/registry"
)
