// Package gateways runs the conformance tests of the Gateway API, as they are,
// against a cluster that a kubeconfig names:
//
//	go test -c -o gateways.test .
//	KUBECONFIG=FILE ./gateways.test --gateway-class=NAME --supported-features=Gateway,TCPRoute,UDPRoute
package gateways

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/yaml"
)

const (
	upstreamBase = "base/manifests.yaml"
	ownBase      = "fairlead/manifests.yaml"
)

// TestConformance runs the suite. What it makes before its tests, and waits for,
// is without the Gateways for HTTP and TLS and the backends for TLS: Fairlead
// does not claim these, and no test of TCPRoute or UDPRoute uses them.
func TestConformance(t *testing.T) {
	base, err := withoutTLS()
	if err != nil {
		t.Fatal(err)
	}
	options := conformance.DefaultOptions(t)
	options.BaseManifests = ownBase
	options.ManifestFS = []fs.FS{fstest.MapFS{ownBase: {Data: []byte(base)}}, &conformance.Manifests}
	conformance.RunConformanceWithOptions(t, options)
}

// manifest is what is looked at of an object.
type manifest struct {
	Kind string `json:"kind"`
	Spec struct {
		Template struct {
			Spec struct {
				Volumes []struct {
					Secret *struct{} `json:"secret"`
				} `json:"volumes"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

func withoutTLS() (string, error) {
	data, err := conformance.Manifests.ReadFile(upstreamBase)
	if err != nil {
		return "", err
	}
	var kept []string
	for _, document := range strings.Split(string(data), "\n---\n") {
		var m manifest
		if err := yaml.Unmarshal([]byte(document), &m); err != nil {
			return "", err
		}
		secret := false
		for _, v := range m.Spec.Template.Spec.Volumes {
			secret = secret || v.Secret != nil
		}
		if m.Kind != "Gateway" && !secret {
			kept = append(kept, document)
		}
	}
	return strings.Join(kept, "\n---\n"), nil
}
