package rbac

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	manifests "fairlead/configs/kubernetes"
	"fairlead/k8ssync/setup"
	lab "fairlead/perf/kube"
	racks "fairlead/perf/lab"
	"fairlead/perf/rig"
)

const (
	namespace = "fairlead-system"
	account   = "system:serviceaccount:" + namespace + ":fairlead"
	chart     = "../../../configs/helm/fairlead"
)

// lists has the API server give no list by a watch, as those before 1.32 do not: what
// is watched is listed first then.
const lists = "--feature-gates=WatchList=false"

// world is a cluster of Kubernetes and a machine above it, on which a node of Fairlead
// has the rights of a service account and no others.
type world struct {
	t       *testing.T
	ctx     context.Context
	control *lab.ControlPlane
	rack    *racks.Rack
	way     *lab.Proxy // from the machine to the API server
	dir     string     // of the node's files
	node    *rig.Node  // nil before the first start
}

func newWorld(t *testing.T) *world {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, dir: t.TempDir()}
	w.control = lab.ForTest(t, lab.Config{Controllers: true, Audit: policy, APIFlags: []string{lists}})
	var err error
	w.rack, err = racks.NewRack(1, racks.Config{})
	w.must(err)
	t.Cleanup(func() {
		if t.Failed() && w.node != nil && w.node.Process() != nil {
			t.Logf("the node:\n%s", w.node.Log())
		}
		if err := w.rack.Close(); err != nil {
			t.Error(err)
		}
	})
	w.way, err = w.control.NewProxy(w.rack.Balancers[0].Host, "127.0.0.1:0")
	w.must(err)
	w.must(w.control.InstallGatewayAPI(w.ctx))
	w.apply(w.shipped("namespace.yaml"))
	w.apply(w.shipped("policy.yaml"))
	w.must(w.control.InstallCRDs(w.ctx))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// shipped is a file of the manifests.
func (w *world) shipped(name string) string {
	w.t.Helper()
	text, err := manifests.FS.ReadFile(name)
	w.must(err)
	return string(text)
}

// rendered are the roles that the chart makes with some values.
func (w *world) rendered(values string) string {
	w.t.Helper()
	out, complaints, err := lab.Helm(w.ctx, "template", "fairlead", chart, "--namespace", namespace, "--set-string", "nodes.lb1=", "--set", values, "--show-only", "templates/rbac.yaml")
	if err != nil {
		w.t.Fatalf("helm: %v: %s", err, complaints)
	}
	return out
}

// grant gives the service account the rights of some roles in place of those that it
// has had, and returns them one by one.
func (w *world) grant(roles string) []setup.Rule {
	w.t.Helper()
	rules, err := setup.Rules([]byte(roles))
	w.must(err)
	w.apply(roles)
	return rules
}

// until waits until the API server goes by a right of the service account, or by its
// absence.
func (w *world) until(can bool, verb, resource string) {
	w.t.Helper()
	want := "no\n"
	if can {
		want = "yes\n"
	}
	for {
		if out, err := w.control.Kubectl(w.ctx, "auth", "can-i", verb, resource, "--as="+account); out == want {
			return
		} else if w.ctx.Err() != nil {
			w.t.Fatalf("whether the account may %s %s: %q, %v", verb, resource, out, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	out, err := w.control.Kubectl(w.ctx, args...)
	w.must(err)
	return out
}

func (w *world) apply(text string) {
	w.t.Helper()
	w.must(w.control.Apply(w.ctx, text))
}

// eventually waits until kubectl prints something that is right.
func (w *world) eventually(what string, right func(string) bool, args ...string) {
	w.t.Helper()
	for {
		out, err := w.control.Kubectl(w.ctx, args...)
		if err == nil && right(out) {
			return
		}
		select {
		case <-w.ctx.Done():
			w.t.Fatalf("%s: %v: %s", what, err, out)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func is(want string) func(string) bool { return func(got string) bool { return got == want } }

func begins(want string) func(string) bool {
	return func(got string) bool { return strings.HasPrefix(got, want) }
}

// assigned waits until a Service has an address.
func (w *world) assigned(name string) {
	w.t.Helper()
	w.eventually(name+" has an address", begins("192.0.2."), "get", "service", name, "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
}

// run starts the node with further lines of [kubernetes]; it knows what it knew before.
func (w *world) run(options string) {
	w.t.Helper()
	cfg, err := w.control.Account(w.ctx, namespace, "fairlead")
	w.must(err)
	kubeconfig := filepath.Join(w.dir, "kubeconfig")
	w.must(w.control.Kubeconfig(kubeconfig, w.way.REST(cfg)))
	lb := w.rack.Balancers[0]
	c := rig.Config{
		Interfaces: []rig.Interface{{Name: lb.Interface.Name}},
		SNAT:       []netip.Addr{w.rack.SNAT4(1), w.rack.SNAT6(1)},
		Tunnel4:    lb.IPv4, Tunnel6: lb.IPv6,
		Options: fmt.Sprintf("[node]\nname = %q\n[kubernetes]\nkubeconfig = %q\n%s", lb.Name, kubeconfig, options),
	}
	if w.node != nil {
		w.must(w.node.Write(c.Text()))
		w.must(w.node.Launch(w.ctx))
		return
	}
	binary, err := rig.Build(w.dir)
	w.must(err)
	w.node, err = rig.Start(w.ctx, binary, w.dir, lb.Host, c.Text())
	w.must(err)
}

// measures waits until a scrape of the node has some lines.
func (w *world) measures(lines ...string) {
	w.t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", w.node.Socket)
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	scrape := func() (string, error) {
		request, err := http.NewRequestWithContext(w.ctx, http.MethodGet, "http://node/metrics", nil)
		if err != nil {
			return "", err
		}
		answer, err := client.Do(request)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return string(text), err
	}
	for {
		text, err := scrape()
		missing := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.Contains(text, "\n"+l+"\n") })
		if err == nil && len(missing) == 0 {
			return
		}
		select {
		case <-w.ctx.Done():
			w.t.Fatalf("a scrape lacks %q: %v", missing, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends the node in good order.
func (w *world) stop() {
	w.t.Helper()
	w.must(w.node.Stop())
}
