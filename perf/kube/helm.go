package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// helmBinary is the path of helm, which is built when it is not there.
var helmBinary = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(root, "perf", "kube", "helm", "build"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build helm: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

// Helm runs helm with settings of its own, and without a cluster unless the arguments
// name a kubeconfig. An error is what helm ended with; what it has complained of is in
// stderr.
func Helm(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	binary, err := helmBinary()
	if err != nil {
		return "", "", err
	}
	home, err := os.MkdirTemp("", "fairlead-helm-")
	if err != nil {
		return "", "", err
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG="+filepath.Join(home, "none"))
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err = cmd.Run()
	return out.String(), complaints.String(), errors.Join(err, os.RemoveAll(home))
}
