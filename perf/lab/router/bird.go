// Package router runs real routers on hosts of a lab: BIRD and FRR, as Debian
// packages them, each with run-time directories of its own.
package router

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"fairlead/perf/lab"
)

// Packages are the Debian packages that the routers are in.
var Packages = []string{"bird2", "frr"}

// Bird is a running BIRD 2. It ends with its lab.
type Bird struct {
	*lab.Process
	host   *lab.Host
	socket string
	config string
}

// StartBird runs BIRD on a host with a configuration file's text, and returns
// when it answers. dir is for its files.
func StartBird(ctx context.Context, h *lab.Host, dir, config string) (*Bird, error) {
	path, err := exec.LookPath("bird")
	if err != nil {
		return nil, fmt.Errorf("BIRD is in the Debian package bird2: %w", err)
	}
	b := &Bird{host: h, socket: filepath.Join(dir, h.Name+".bird.ctl"), config: filepath.Join(dir, h.Name+".bird.conf")}
	if err := os.WriteFile(b.config, []byte(config), 0o600); err != nil {
		return nil, err
	}
	if b.Process, err = h.Start(exec.Command(path, "-f", "-c", b.config, "-s", b.socket, "-P", filepath.Join(dir, h.Name+".bird.pid"))); err != nil {
		return nil, err
	}
	return b, b.ready(ctx)
}

func (b *Bird) ready(ctx context.Context) error {
	for {
		out, err := b.Ask(ctx, "show status")
		if err == nil && strings.Contains(out, "up and running") {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-b.Done():
			return fmt.Errorf("BIRD on %s ended:\n%s", b.host.Name, b.Output())
		case <-ctx.Done():
			return fmt.Errorf("BIRD on %s does not answer (%w): %s\n%s", b.host.Name, context.Cause(ctx), out, b.Output())
		}
	}
}

// Ask gives BIRD a command and returns what it says.
func (b *Bird) Ask(ctx context.Context, command string) (string, error) {
	args := append([]string{"-s", b.socket}, strings.Fields(command)...)
	out, err := exec.CommandContext(ctx, "birdc", args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("birdc %s: %w: %s", command, err, out)
	}
	return string(out), nil
}

// Configure puts another configuration in force.
func (b *Bird) Configure(ctx context.Context, config string) error {
	if err := os.WriteFile(b.config, []byte(config), 0o600); err != nil {
		return err
	}
	out, err := b.Ask(ctx, "configure")
	if err == nil && !strings.Contains(out, "Reconfigur") {
		err = fmt.Errorf("birdc configure: %s", out)
	}
	return err
}
