package router

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fairlead/perf/lab"
)

// frrDir is where Debian keeps FRR's daemons.
const frrDir = "/usr/lib/frr"

// frrDaemons are the daemons of a BGP router, in the order of their start.
var frrDaemons = []string{"zebra", "bfdd", "bgpd"}

// FRR is a running FRR with zebra, bfdd and bgpd. It ends with its lab.
type FRR struct {
	host    *lab.Host
	dir     string
	daemons []*lab.Process
}

// StartFRR runs FRR on a host with one configuration for all its daemons, and
// returns when they answer.
func StartFRR(ctx context.Context, h *lab.Host, config string) (*FRR, error) {
	f := &FRR{host: h}
	if err := f.makeDir(); err != nil {
		return nil, err
	}
	path := filepath.Join(f.dir, "frr.conf")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return nil, err
	}
	empty := filepath.Join(f.dir, "empty.conf")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		return nil, err
	}
	for _, daemon := range frrDaemons {
		args := []string{"--vty_socket", f.dir, "-z", filepath.Join(f.dir, "zserv.api"),
			"-i", filepath.Join(f.dir, daemon+".pid"), "-f", empty, "-P", "0", "-A", "127.0.0.1", "--log", "stdout", "--log-level", "warnings"}
		if daemon == "bfdd" {
			args = append(args, "--bfdctl", filepath.Join(f.dir, "bfdd.sock"))
		}
		p, err := h.Start(exec.Command(filepath.Join(frrDir, daemon), args...))
		if err != nil {
			return nil, fmt.Errorf("FRR is in the Debian package frr: %w", err)
		}
		f.daemons = append(f.daemons, p)
		if err := f.ready(ctx, daemon, p); err != nil {
			return nil, err
		}
	}
	// vtysh tells each daemon the lines that are for it.
	if out, err := f.vtysh(ctx, "-f", path); err != nil || strings.Contains(out, "% ") {
		return nil, errors.Join(fmt.Errorf("FRR on %s does not take its configuration: %s", h.Name, out), err)
	}
	return f, nil
}

// makeDir makes a directory for FRR's files. FRR becomes a user of its own, who
// may not enter directories of tests.
func (f *FRR) makeDir() error {
	owner, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("FRR is in the Debian package frr: %w", err)
	}
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(owner.Gid)
	if err != nil {
		return err
	}
	if f.dir, err = os.MkdirTemp("", "fairlead-frr-"); err != nil {
		return err
	}
	f.host.Lab().OnClose(func() error { return os.RemoveAll(f.dir) })
	return errors.Join(os.Chmod(f.dir, 0o755), os.Chown(f.dir, uid, gid))
}

func (f *FRR) ready(ctx context.Context, daemon string, p *lab.Process) error {
	for {
		if out, err := f.vtysh(ctx, "-d", daemon, "-c", "show version"); err == nil && strings.Contains(out, "FRRouting") {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-p.Done():
			return fmt.Errorf("%s on %s ended:\n%s", daemon, f.host.Name, p.Output())
		case <-ctx.Done():
			return fmt.Errorf("%s on %s does not answer: %w\n%s", daemon, f.host.Name, context.Cause(ctx), p.Output())
		}
	}
}

func (f *FRR) vtysh(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "vtysh", append([]string{"--vty_socket", f.dir}, args...)...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("vtysh %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Ask gives FRR a command and returns what it says.
func (f *FRR) Ask(ctx context.Context, command string) (string, error) {
	return f.vtysh(ctx, "-c", command)
}

// Output is what the daemons have written.
func (f *FRR) Output() string {
	var all strings.Builder
	for _, p := range f.daemons {
		all.Write(p.Output())
	}
	return all.String()
}
