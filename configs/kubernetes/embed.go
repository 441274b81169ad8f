// Package manifests has the manifests that are applied to a Kubernetes cluster.
package manifests

import "embed"

// FS has the manifests: crds/*.yaml are our custom resource definitions, policy.yaml
// the admission policies that refuse wrong addresses, and the rest is what runs
// Fairlead in a cluster.
//
//go:embed *.yaml crds/*.yaml
var FS embed.FS
