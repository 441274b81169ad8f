package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairlead/perf/lab"
)

// logTail is how much of each server's log Logs shows, in bytes.
const logTail = 4 << 10

func (c *ControlPlane) startEtcd(ctx context.Context) error {
	client, peer := loopbackURL("http", etcdPort), loopbackURL("http", etcdPeerPort)
	p, err := c.run(etcdBinary,
		"--name=lab", "--data-dir="+c.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=lab="+peer)
	if err != nil {
		return err
	}
	return c.healthy(ctx, p, client+"/health")
}

// StartAPI starts the API server, for the first time or after StopAPI, and
// returns when it is ready. It is always at the same address with the same data.
func (c *ControlPlane) StartAPI(ctx context.Context) error {
	p, err := c.run(apiBinary, c.apiFlags()...)
	if err != nil {
		return err
	}
	return c.healthy(ctx, p, "https://"+c.Address().String()+"/readyz")
}

// StopAPI kills the API server at once, as a failure does.
func (c *ControlPlane) StopAPI() error { return c.kill(apiBinary) }

func (c *ControlPlane) apiFlags() []string {
	flags := []string{
		"--etcd-servers=" + loopbackURL("http", etcdPort),
		"--bind-address=0.0.0.0", "--secure-port=" + strconv.Itoa(APIPort), "--advertise-address=" + c.cfg.Address.String(),
		"--tls-cert-file=" + c.path("server.crt"), "--tls-private-key-file=" + c.path("server.key"), "--client-ca-file=" + c.path("ca.crt"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range=" + Services4.String() + "," + Services6.String(),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + c.path("accounts.key"),
		"--service-account-signing-key-file=" + c.path("accounts.key"),
		"--kubelet-preferred-address-types=InternalIP", "--kubelet-certificate-authority=" + c.path("ca.crt"),
		"--allow-privileged", // pods on the host's network say so in the manifests of many
	}
	if c.cfg.NodePorts != "" {
		flags = append(flags, "--service-node-port-range="+c.cfg.NodePorts)
	}
	if !c.cfg.Controllers {
		// Nobody makes the accounts that this plugin demands of every pod.
		flags = append(flags, "--disable-admission-plugins=ServiceAccount")
	}
	if c.cfg.Audit != "" {
		flags = append(flags, "--audit-policy-file="+c.path("audit.yaml"), "--audit-log-path="+c.AuditLog(), "--audit-log-mode=blocking")
	}
	return append(flags, c.cfg.APIFlags...)
}

func (c *ControlPlane) startControllers(ctx context.Context) error {
	flags := []string{
		"--kubeconfig=" + c.path("admin.kubeconfig"), "--leader-elect=false",
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(controllerPort), "--cert-dir=" + c.path("controller"),
		"--service-account-private-key-file=" + c.path("accounts.key"), "--root-ca-file=" + c.path("ca.crt"),
		"--kube-api-qps=500", "--kube-api-burst=1000",
		"--concurrent-endpoint-syncs=10", "--concurrent-service-endpoint-syncs=10",
	}
	p, err := c.run(controllerBinary, append(flags, c.cfg.ControllerFlags...)...)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return err
	}
	if err := c.healthy(ctx, p, loopbackURL("https", controllerPort)+"/healthz"); err != nil {
		return err
	}
	// The first thing of theirs that is missed when they do not work yet.
	return until(ctx, p, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(meta.NamespaceDefault).Get(ctx, "default", meta.GetOptions{})
		return err
	})
}

func (c *ControlPlane) startScheduler(ctx context.Context) error {
	p, err := c.run(schedulerBinary,
		"--kubeconfig="+c.path("admin.kubeconfig"), "--leader-elect=false",
		"--bind-address=127.0.0.1", "--secure-port="+strconv.Itoa(schedulerPort), "--cert-dir="+c.path("scheduler"))
	if err != nil {
		return err
	}
	return c.healthy(ctx, p, loopbackURL("https", schedulerPort)+"/healthz")
}

// run starts one server on the host.
func (c *ControlPlane) run(name string, flags ...string) (*lab.Process, error) {
	path, err := binary(name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.New("the control plane is closed")
	}
	if c.servers[name] != nil {
		return nil, fmt.Errorf("%s has been started already", name)
	}
	cmd := exec.Command(path, flags...)
	cmd.Dir = c.dir
	p, err := c.host.Start(cmd)
	if err != nil {
		return nil, err
	}
	c.servers[name] = p
	c.logs = append(c.logs, logged{name, p})
	return p, nil
}

// addLog has the log of another process shown with those of the servers.
func (c *ControlPlane) addLog(name string, p *lab.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logs = append(c.logs, logged{name, p})
}

// kill ends one server at once. One that does not run is no error.
func (c *ControlPlane) kill(name string) error {
	c.mu.Lock()
	p := c.servers[name]
	delete(c.servers, name)
	c.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.Kill()
}

// healthy waits until a server answers a question for its health.
func (c *ControlPlane) healthy(ctx context.Context, p *lab.Process, url string) error {
	return healthy(ctx, c.host, p, url)
}

func healthy(ctx context.Context, host *lab.Host, p *lab.Process, url string) error {
	transport := &http.Transport{
		DialContext: host.Dial,
		// Some make their certificates themselves; on their own host they are known
		// by their addresses.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	return until(ctx, p, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
		if err == nil && answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s: %s", url, answer.Status, body)
		}
		return err
	})
}

// until tries until it succeeds, the process ends, or ctx does.
func until(ctx context.Context, p *lab.Process, try func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := try(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return fmt.Errorf("it has ended before it was ready: %w", p.Wait(ctx))
		case <-ctx.Done():
			return fmt.Errorf("it is not ready: %w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// logged is a server whose log is kept.
type logged struct {
	name    string
	process *lab.Process
}

// Logs is the end of what each server has written but for mere information, for the
// output of a test that has failed.
func (c *ControlPlane) Logs() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, l := range c.logs {
		out := warnings(l.process.Output())
		if len(out) > logTail {
			out = out[len(out)-logTail:]
			out = out[bytes.IndexByte(out, '\n')+1:]
		}
		fmt.Fprintf(&b, "--- %s (pid %d)\n%s", l.name, l.process.Pid(), out)
	}
	return b.String()
}

// information is how the servers' lines begin and go on that tell of no trouble: klog's
// severity, date and time, and the level of etcd.
var information = regexp.MustCompile(`^(I\d{4} |\{"level":"info")`)

// warnings are the lines of a log but for mere information.
func warnings(log []byte) []byte {
	var kept []byte
	for line := range bytes.Lines(log) {
		if !information.Match(line) {
			kept = append(kept, line...)
		}
	}
	return kept
}

func loopbackURL(scheme string, port uint16) string {
	return scheme + "://" + netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String()
}
