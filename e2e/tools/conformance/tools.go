//go:build tools

package conformancetools

import (
	_ "github.com/opencontainers/distribution-spec/conformance"
)
