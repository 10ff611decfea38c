//go:build tools

// Package definitions has no code: what is wanted of its modules are the custom resource definitions in them.
package definitions
