package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"fairlead/perf/lab"
)

// startTimeout bounds the start of a control plane for which the caller has set
// no bound.
const startTimeout = 2 * time.Minute

// ControlPlane is a running control plane. Its methods may be called from
// several goroutines.
type ControlPlane struct {
	cfg       Config
	dir       string // of keys, logs and etcd's data
	own       *lab.Lab
	host      *lab.Host
	authority *authority
	admin     *rest.Config
	door      *Proxy // by which this process reaches the API server

	mu      sync.Mutex
	servers map[string]*lab.Process // by binary; those that have been started and not stopped
	logs    []logged                // of all that were ever started
	closed  bool
}

// Start starts a control plane and returns when it is ready: with controllers,
// when these work. The caller closes it.
func Start(ctx context.Context, cfg Config) (*ControlPlane, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	if _, err := Binaries(); err != nil {
		return nil, err
	}
	c := &ControlPlane{cfg: cfg, host: cfg.Host, servers: map[string]*lab.Process{}}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("control plane: %w\n%s", err, c.Logs()), c.Close())
	}
	return c, nil
}

// ForTest starts a control plane that is closed at the end of a test. The logs
// of its servers are in the output of a test that has failed.
func ForTest(t testing.TB, cfg Config) *ControlPlane {
	t.Helper()
	c, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *ControlPlane) start(ctx context.Context) (err error) {
	if c.dir, err = os.MkdirTemp("", "fairlead-kube-"); err != nil {
		return err
	}
	if c.host == nil {
		if err := c.makeHost(); err != nil {
			return err
		}
	}
	if err := c.makeKeys(); err != nil {
		return err
	}
	if c.door, err = c.NewProxy(nil, "127.0.0.1:0"); err != nil {
		return err
	}
	if c.admin, err = c.User("admin", "system:masters"); err != nil {
		return err
	}
	if err := c.Kubeconfig(c.path("admin.kubeconfig"), c.Inside(c.admin)); err != nil {
		return err
	}
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	if err := c.StartAPI(ctx); err != nil {
		return err
	}
	if c.cfg.Controllers {
		if err := c.startControllers(ctx); err != nil {
			return err
		}
	}
	if c.cfg.Scheduler {
		return c.startScheduler(ctx)
	}
	return nil
}

// makeHost gives the control plane a host on which it is alone.
func (c *ControlPlane) makeHost() (err error) {
	if c.own, err = lab.New(); err != nil {
		return err
	}
	if c.host, err = c.own.AddHost("control"); err != nil {
		return err
	}
	c.cfg.Address = loneAddress
	lo := &lab.Interface{Host: c.host, Name: "lo"}
	return lo.AddAddress(netip.PrefixFrom(loneAddress, loneAddress.BitLen()))
}

// makeKeys writes what the servers identify themselves with.
func (c *ControlPlane) makeKeys() (err error) {
	if c.authority, err = newAuthority(); err != nil {
		return err
	}
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	addrs := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), c.cfg.Address, Services4.Addr().Next(), Services6.Addr().Next()}
	serving, err := c.authority.server(names, addrs)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"ca.crt":     c.authority.pem,
		"server.crt": serving.certificate,
		"server.key": serving.key,
		"audit.yaml": []byte(c.cfg.Audit),
	} {
		if err := os.WriteFile(c.path(name), data, 0o600); err != nil {
			return err
		}
	}
	return newSigningKey(c.path("accounts.key"))
}

// path is that of a file of the control plane.
func (c *ControlPlane) path(name string) string { return filepath.Join(c.dir, name) }

// Address is where the API server is reached from other hosts.
func (c *ControlPlane) Address() netip.AddrPort { return netip.AddrPortFrom(c.cfg.Address, APIPort) }

// Host is where the servers run.
func (c *ControlPlane) Host() *lab.Host { return c.host }

// CA is the certificate of the authority that the API server's is signed by, in
// PEM.
func (c *ControlPlane) CA() []byte { return c.authority.pem }

// AuditLog is the path of the file in which requests are recorded as the
// audit policy says, one JSON object (audit.k8s.io/v1, Event) a line.
func (c *ControlPlane) AuditLog() string { return c.path("audit.log") }

// Close stops all servers and removes what they have left. Calling it again does
// nothing.
func (c *ControlPlane) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	var errs []error
	if c.door != nil {
		errs = append(errs, c.door.Close())
	}
	// In this order: none is to find that another has left it.
	for _, name := range []string{schedulerBinary, controllerBinary, apiBinary, etcdBinary} {
		errs = append(errs, c.kill(name))
	}
	if c.own != nil {
		errs = append(errs, c.own.Close())
	}
	if c.dir != "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(errs...)
}
