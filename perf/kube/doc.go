// Package kube runs real Kubernetes for tests: etcd, kube-apiserver and
// kube-controller-manager as they are released, in network namespaces of a lab.
//
//	control := kube.ForTest(t, kube.Config{Controllers: true})
//	client := kubernetes.NewForConfigOrDie(control.REST())
//
// The servers are built by perf/kube/build from the module perf/kube/servers;
// nothing is pulled from a registry. Images are programs of this machine, whose
// containers see its files, or have a file system, volumes and rights of their own as a
// container runtime would make them (perf/kube/runtime). All addresses come from the
// ranges kept for documentation and benchmarks. Root is needed, as for any lab.
package kube
