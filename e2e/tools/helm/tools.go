//go:build tools

package helmtools

import (
	_ "helm.sh/helm/v3/cmd/helm"
)
