//go:build tools

package versitygwtools

import (
	_ "github.com/versity/versitygw/cmd/versitygw"
)
