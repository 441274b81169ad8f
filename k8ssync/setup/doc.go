// Package setup prepares a Kubernetes cluster for Fairlead, and examines whether it
// is: credentials for nodes outside of it, and what a node finds when it comes with
// its own.
package setup
