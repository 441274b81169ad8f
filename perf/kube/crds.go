package kube

import (
	"context"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"

	manifests "fairlead/configs/kubernetes"
)

// InstallCRDs makes the kinds of Fairlead known, and returns when they are served.
func (c *ControlPlane) InstallCRDs(ctx context.Context) error {
	names, err := fs.Glob(manifests.FS, "crds/*.yaml")
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := fs.ReadFile(manifests.FS, name)
		if err != nil {
			return err
		}
		if err := c.Apply(ctx, string(text)); err != nil {
			return err
		}
	}
	return c.crdsServed(ctx)
}

// InstallGatewayAPI makes the kinds of the Gateway API known, of its standard channel
// and in the release that Fairlead is built with, and returns when they are served.
func (c *ControlPlane) InstallGatewayAPI(ctx context.Context) error {
	dir, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		return fmt.Errorf("find the Gateway API: %w", err)
	}
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-f", filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "standard")); err != nil {
		return err
	}
	return c.crdsServed(ctx)
}

func (c *ControlPlane) crdsServed(ctx context.Context) error {
	_, err := c.Kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	return err
}
