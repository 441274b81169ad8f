package rig

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fairlead/perf/lab"
)

// Cluster is several running nodes of Fairlead that are one balancer.
type Cluster struct {
	*lab.Rack
	Nodes   []*Node // by the same indexes as Rack.Balancers
	KeyFile string

	binary, dir string
	text        func(i int) string
}

// StartCluster runs a node on each load balancer of a rack, one after the other,
// and returns when all forward. text is the configuration of a node without
// [node], [cluster] and [state]; it may begin with further keys of [cluster]. The
// first node is the seed of all. Files are kept
// in dir.
func StartCluster(ctx context.Context, binary, dir string, rack *lab.Rack, text func(i int) string) (*Cluster, error) {
	c := &Cluster{Rack: rack, KeyFile: filepath.Join(dir, "cluster.key"), binary: binary, dir: dir, text: text}
	key := make([]byte, 32)
	rand.Read(key) // it never fails: see crypto/rand
	if err := os.WriteFile(c.KeyFile, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		return nil, err
	}
	for i := range rack.Balancers {
		if err := c.Add(ctx, i); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Add starts node i for the first time.
func (c *Cluster) Add(ctx context.Context, i int) error {
	dir := filepath.Join(c.dir, c.Balancers[i].Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	n, err := Start(ctx, c.binary, dir, c.Balancers[i].Host, c.Config(i))
	for len(c.Nodes) <= i {
		c.Nodes = append(c.Nodes, nil)
	}
	c.Nodes[i] = n
	if err != nil {
		return fmt.Errorf("%s: %w", c.Balancers[i].Name, err)
	}
	return nil
}

// Config is the whole configuration of node i.
func (c *Cluster) Config(i int) string {
	lb := c.Balancers[i]
	return fmt.Sprintf("[node]\nname = %q\n[cluster]\nkey_file = %q\nadvertise = %q\nseeds = [%q]\n",
		lb.Name, c.KeyFile, lb.IPv4, c.Balancers[0].IPv4) + c.text(i)
}

// StateDirectory is where node i keeps its state.
func (c *Cluster) StateDirectory(i int) string {
	return filepath.Join(c.dir, c.Balancers[i].Name, "state")
}

// Kill ends both processes of node i with SIGKILL, and what stands by with them:
// as a power cut does, but for its memory of what it has in the kernel.
func (c *Cluster) Kill(ctx context.Context, i int) error {
	status, err := c.Nodes[i].Status(ctx)
	if err != nil {
		return err
	}
	errs := []error{c.Nodes[i].Process().Kill()}
	for _, pid := range []int{status.Data.PID, status.Data.Standby} {
		if pid > 0 {
			p, err := os.FindProcess(pid)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Said counts the lines with all of these words in what node i has logged.
func (c *Cluster) Said(i int, words ...string) (n int) {
	for line := range strings.Lines(string(c.Nodes[i].Log())) {
		has := true
		for _, w := range words {
			has = has && strings.Contains(line, w)
		}
		if has {
			n++
		}
	}
	return n
}

// UntilSaid waits until node i has logged so many lines with all of these words.
func (c *Cluster) UntilSaid(ctx context.Context, i, times int, words ...string) error {
	for c.Said(i, words...) < times {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not say %q %d times: %w\n%s", c.Balancers[i].Name, words, times, context.Cause(ctx), c.Nodes[i].Log())
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}
