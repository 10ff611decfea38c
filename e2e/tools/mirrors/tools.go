// Reads a mirror configuration with the code of who consumes it, and prints as JSON what was understood.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/rancher/wharfie/pkg/registries"
	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	_ "github.com/siderolabs/talos/pkg/machinery/config/types/cri"
	yaml2 "gopkg.in/yaml.v2"
	kubeadm "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: mirrorstools k3s|talos|kubeadm FILE"))
	}
	text, err := os.ReadFile(os.Args[2])
	if err != nil {
		fail(err)
	}
	var understood any
	switch os.Args[1] {
	case "k3s":
		understood, err = k3s(text)
	case "talos":
		understood, err = talos(text)
	case "kubeadm":
		understood, err = kubeadmFiles(text)
	default:
		err = fmt.Errorf("no such format: %s", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(understood); err != nil {
		fail(err)
	}
}

// k3s reads what K3s reads with the same types, and knows no other fields.
func k3s(text []byte) (any, error) {
	var registry registries.Registry
	err := yaml2.UnmarshalStrict(text, &registry)
	return registry, err
}

type talosEndpoint struct {
	URL          string `json:"url"`
	OverridePath bool   `json:"overridePath"`
}

type talosMirror struct {
	Endpoints    []talosEndpoint `json:"endpoints"`
	SkipFallback bool            `json:"skipFallback"`
}

type talosMirrors struct {
	Mirrors     map[string]talosMirror `json:"mirrors"`
	Authorities map[string]string      `json:"authorities"`
}

// talos patches a machine's configuration, and asks it for its registries.
func talos(text []byte) (any, error) {
	patch, err := configpatcher.LoadPatch(text)
	if err != nil {
		return nil, err
	}
	base := []byte("version: v1alpha1\nmachine:\n  type: worker\n")
	output, err := configpatcher.Apply(configpatcher.WithBytes(base), []configpatcher.Patch{patch})
	if err != nil {
		return nil, err
	}
	patched, err := output.Config()
	if err != nil {
		return nil, err
	}
	understood := talosMirrors{Mirrors: map[string]talosMirror{}, Authorities: map[string]string{}}
	for name, mirror := range patched.RegistryMirrorConfigs() {
		one := talosMirror{SkipFallback: mirror.SkipFallback()}
		for _, endpoint := range mirror.Endpoints() {
			one.Endpoints = append(one.Endpoints, talosEndpoint{endpoint.Endpoint(), endpoint.OverridePath()})
		}
		understood.Mirrors[name] = one
	}
	for host, tls := range patched.RegistryTLSConfigs() {
		understood.Authorities[host] = string(tls.CA())
	}
	for _, document := range patched.Documents() {
		// The machine's own document lacks all that is not about registries.
		if validator, ok := document.(config.Validator); ok && document.Kind() != "v1alpha1" {
			if _, err := validator.Validate(mode{}); err != nil {
				return nil, fmt.Errorf("%s: %w", document.Kind(), err)
			}
		}
	}
	return understood, nil
}

type mode struct{}

func (mode) String() string        { return "metal" }
func (mode) RequiresInstall() bool { return false }
func (mode) InContainer() bool     { return false }

// kubeadmFiles reads the part of a KubeadmConfigSpec, and knows no other fields.
func kubeadmFiles(text []byte) (any, error) {
	var fragment struct {
		Files []kubeadm.File `json:"files"`
	}
	err := yaml.UnmarshalStrict(text, &fragment)
	return fragment, err
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
