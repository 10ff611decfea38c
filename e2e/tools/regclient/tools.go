//go:build tools

package regclienttools

import (
	_ "github.com/regclient/regclient/cmd/regctl"
)
