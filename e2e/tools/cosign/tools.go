//go:build tools

package cosigntools

import (
	_ "github.com/sigstore/cosign/v3/cmd/cosign"
)
