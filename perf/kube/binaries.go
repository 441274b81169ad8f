package kube

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
)

// Version is that of Kubernetes, as perf/kube/servers has it.
const Version = "v1.36.3"

// The servers, by the names of their binaries.
const (
	etcdBinary       = "etcd"
	apiBinary        = "kube-apiserver"
	controllerBinary = "kube-controller-manager"
	schedulerBinary  = "kube-scheduler"
	proxyBinary      = "kube-proxy"
	kubectlBinary    = "kubectl"
)

// Binaries is the folder of the servers' binaries, which are built when they are
// not there: that takes minutes on a machine that has never done it, so `make
// test` does it before.
var Binaries = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	out, err := exec.Command(filepath.Join(root, "perf", "kube", "build")).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return "", fmt.Errorf("build the servers of Kubernetes: %w\n%s", err, exit.Stderr)
		}
		return "", fmt.Errorf("build the servers of Kubernetes: %w", err)
	}
	return string(bytes.TrimSpace(out)), nil
})

// binary is the path of one server's binary.
func binary(name string) (string, error) {
	dir, err := Binaries()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return string(bytes.TrimSpace(out)), nil
}
