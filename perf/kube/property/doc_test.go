// Package property proves that what Fairlead makes of a Kubernetes cluster follows from
// the objects that there are and from the addresses that were recorded, and from
// nothing else of the past. It is the rooms without a world: the ledger of addresses,
// and the translation of Services. perf/kube/e2e does the same with an API server.
package property
