// Package rig puts a running Fairlead into a lab: the demo and the end-to-end
// tests are written with it.
package rig

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
	"syscall"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
)

// Build compiles the fairlead binary into dir.
func Build(dir string) (string, error) { return BuildWith(dir, "") }

// BuildWith is Build with flags for the linker.
func BuildWith(dir, ldflags string) (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	binary := filepath.Join(dir, "fairlead")
	build := exec.Command("go", "build", "-ldflags", ldflags, "-o", binary, "./cmd/fairlead")
	build.Dir = string(bytes.TrimSpace(root))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build fairlead: %w\n%s", err, out)
	}
	return binary, nil
}

// Node is a running `fairlead run` on a lab host.
type Node struct {
	Binary string
	Config string // path of its configuration file
	Socket string
	Args   []string // for the command line, from the next Launch on
	host   *lab.Host
	client *api.Client

	mu      sync.Mutex
	process *lab.Process
	prepare func(*exec.Cmd) error
}

// Start runs fairlead on a host with the given configuration, keeping its
// files in dir, and returns when it forwards.
func Start(ctx context.Context, binary, dir string, host *lab.Host, toml string) (*Node, error) {
	return StartPrepared(ctx, binary, dir, host, toml, nil)
}

// StartPrepared is Start with something that is done to each command before it
// is started.
func StartPrepared(ctx context.Context, binary, dir string, host *lab.Host, toml string, prepare func(*exec.Cmd) error) (*Node, error) {
	n := &Node{prepare: prepare, Binary: binary, Config: filepath.Join(dir, "fairlead.toml"), Socket: filepath.Join(dir, "fairlead.sock"), host: host}
	n.client = api.NewClient(n.Socket)
	if err := n.Write(toml); err != nil {
		return nil, err
	}
	return n, n.Launch(ctx)
}

// Launch starts the process, for the first time or after Stop.
func (n *Node) Launch(ctx context.Context) error {
	cmd := exec.Command(n.Binary, append([]string{"run", "--config", n.Config, "--socket", n.Socket}, n.Args...)...)
	if n.prepare != nil {
		if err := n.prepare(cmd); err != nil {
			return err
		}
	}
	p, err := n.host.Start(cmd)
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.process = p
	n.mu.Unlock()
	if err := n.Until(ctx, func(s *api.Status) bool { return s.Generation.Acknowledged > 0 }); err != nil {
		return fmt.Errorf("fairlead does not come up: %w\n%s", err, p.Output())
	}
	return nil
}

// Write makes toml the configuration file, for the next time that it is read.
func (n *Node) Write(toml string) error {
	tmp := n.Config + ".new"
	if !strings.Contains(toml, "[state]") {
		// Each node has its own, and tests replace everything at will.
		toml += fmt.Sprintf("\n[state]\ndirectory = %q\nremoval_guard = 100\n", filepath.Join(filepath.Dir(n.Config), "state"))
	}
	if err := os.WriteFile(tmp, []byte(toml), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, n.Config)
}

// Status asks the node how it is.
func (n *Node) Status(ctx context.Context) (*api.Status, error) { return n.client.Status(ctx) }

// Client asks and tells the node what there is no method for.
func (n *Node) Client() *api.Client { return n.client }

// Profile has the data process record its CPU time for so many seconds.
func (n *Node) Profile(ctx context.Context, seconds int) ([]byte, error) {
	return n.client.Profile(ctx, seconds)
}

// Until asks for the status until it fulfils cond, the process ends, or ctx
// does.
func (n *Node) Until(ctx context.Context, cond func(*api.Status) bool) error {
	var last error
	for {
		s, err := n.Status(ctx)
		if err == nil && cond(s) {
			return nil
		}
		last = err
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), last)
		case <-n.Process().Done():
			return fmt.Errorf("fairlead has ended:\n%s", n.Process().Output())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// What the node logs of a reload.
const (
	inForce = "configuration in force"
	refused = "nothing changes"
)

// Reload gives the node another configuration and returns when every worker
// decides by it.
func (n *Node) Reload(ctx context.Context, toml string) error {
	before, err := n.Status(ctx)
	if err != nil {
		return err
	}
	line, err := n.apply(ctx, toml, inForce, refused)
	if err != nil {
		return err
	}
	if strings.Contains(line, refused) {
		return fmt.Errorf("the configuration is refused: %s", line)
	}
	return n.Until(ctx, func(s *api.Status) bool {
		return s.Generation.Published > before.Generation.Published && s.Generation.Acknowledged >= s.Generation.Published
	})
}

// Refuse gives the node a configuration that it must not take, and returns the
// log line with which it says why.
func (n *Node) Refuse(ctx context.Context, toml string) (string, error) {
	line, err := n.apply(ctx, toml, inForce, refused)
	if err == nil && strings.Contains(line, inForce) {
		err = fmt.Errorf("the configuration is not refused: %s", line)
	}
	return line, err
}

// apply has the node read another configuration, and returns the first line
// that it logs afterwards with one of the texts in it.
func (n *Node) apply(ctx context.Context, toml string, texts ...string) (line string, err error) {
	if err := n.Write(toml); err != nil {
		return "", err
	}
	before := len(n.Log())
	if err := n.Process().Signal(syscall.SIGHUP); err != nil {
		return "", err
	}
	err = n.Until(ctx, func(*api.Status) bool {
		for l := range strings.Lines(string(n.Log()[before:])) {
			for _, text := range texts {
				if strings.Contains(l, text) && strings.HasSuffix(l, "\n") {
					line = l
					return true
				}
			}
		}
		return false
	})
	if err != nil {
		return "", fmt.Errorf("the node says nothing of its new configuration: %w", err)
	}
	return line, nil
}

// Reloads counts the configurations that the node has taken and refused.
func (n *Node) Reloads() (taken, not int) {
	log := n.Log()
	return bytes.Count(log, []byte(inForce)), bytes.Count(log, []byte(refused))
}

// Balance waits until the ledger balances with nothing in flight and every
// worker decides by the latest generation: the traffic must have ended.
func (n *Node) Balance(ctx context.Context) (*api.Status, error) {
	var final *api.Status
	err := n.Until(ctx, func(s *api.Status) bool {
		final = s
		return s.Ledger.Difference == 0 && s.Ledger.InFlight == 0 && s.Generation.Acknowledged == s.Generation.Published
	})
	if err != nil && final != nil {
		return nil, fmt.Errorf("the ledger does not balance: generation %+v, ledger %+v: %w", final.Generation, final.Ledger, err)
	}
	if err != nil {
		return nil, fmt.Errorf("the ledger does not balance: %w", err)
	}
	return final, nil
}

// Process is the control process.
func (n *Node) Process() *lab.Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// Log is what the node has written.
func (n *Node) Log() []byte { return n.Process().Output() }

// Stop ends the node in good order.
func (n *Node) Stop() error { return n.Process().Stop(10 * time.Second) }

// Reread puts another configuration into the node's file and has the node read
// it, whatever comes of that.
func (n *Node) Reread(toml string) error {
	if err := n.Write(toml); err != nil {
		return err
	}
	return n.Process().Signal(syscall.SIGHUP)
}
