// Package kube runs real Kubernetes for tests: etcd, kube-apiserver and
// kube-controller-manager as they are released, in network namespaces of a lab.
//
//	control := kube.ForTest(t, kube.Config{Controllers: true})
//	client := kubernetes.NewForConfigOrDie(control.REST())
//
// The servers are built by perf/kube/build from the module perf/kube/servers;
// no image and no container runtime is involved. All addresses come from the
// ranges kept for documentation and benchmarks. Root is needed, as for any lab.
package kube
