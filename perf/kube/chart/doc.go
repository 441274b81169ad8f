// Package chart tests the Helm chart, and the manifests that are made from it.
package chart
