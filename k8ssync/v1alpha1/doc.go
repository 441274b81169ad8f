// Package v1alpha1 is the API group fairlead.io in Kubernetes: pools that
// addresses are taken from, and reservations, which say who holds one. It has the
// types, their place in a scheme, and clients for them. The CRDs are in
// configs/kubernetes/crds; what they refuse is not checked here again.
package v1alpha1
