package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

// tell runs a command against a node of the cluster, and decodes what it writes.
func (w *clusterWorld) tell(i int, out any, args ...string) (code int, stderr string) {
	w.t.Helper()
	var text, said bytes.Buffer
	cmd := exec.CommandContext(w.ctx, binary, append(args, "--socket", w.Nodes[i].Socket, "-o", "json")...)
	cmd.Stdout, cmd.Stderr = &text, &said
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("%v: %v", args, err)
	}
	if text.Len() > 0 {
		if err := json.Unmarshal(text.Bytes(), out); err != nil {
			w.t.Fatalf("%v: %v\n%s", args, err, &text)
		}
	}
	return cmd.ProcessState.ExitCode(), said.String()
}

// untilTold runs a command against a node until what it writes is as it is to be.
func untilTold[T any](w *clusterWorld, i int, what string, ok func(code int, out *T) bool, args ...string) *T {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		out := new(T)
		code, said := w.tell(i, out, args...)
		if ok(code, out) {
			return out
		}
		if time.Now().After(deadline) {
			text, _ := json.MarshalIndent(out, "", " ")
			w.t.Fatalf("waited in vain: %s: %v on %s ends with %d\n%s%s", what, args, w.Balancers[i].Name, code, text, said)
		}
	}
}

// viewText is the configuration of a node with one service, which every backend
// answers directly.
func viewText(rack *lab.Rack, pins string) string {
	c := rig.Config{
		PinPath: pins, Interfaces: []rig.Interface{{Name: "eth0"}}, Pools: []rig.Pool{{Name: "web"}},
		Services: []rig.Service{{Name: "web", VIP: rack.VIP4(1), Protocol: "tcp", Port: streamPort, Pool: "web", Method: "l2"}},
	}
	for _, b := range rack.Backends {
		c.Pools[0].Backends = append(c.Pools[0].Backends, rig.Backend{Address: b.IPv4, Weight: 1, Name: b.Name})
	}
	return "hold_down = \"1s\"\n" + c.Text() // the first line is of [cluster]
}

func newViewWorld(t *testing.T) *clusterWorld {
	t.Helper()
	pins := filepath.Dir((&world{t: t}).bpffs())
	w := newClusterWorld(t, 3, lab.Config{Backends: 2}, func(rack *lab.Rack, i int) string {
		return viewText(rack, filepath.Join(pins, rack.Balancers[i].Name))
	})
	for _, b := range w.Backends {
		w.must(rig.Own(b, w.VIP4(1)))
		_, err := traffic.ServeStream(b.Host, fmt.Sprintf(":%d", streamPort))
		w.must(err)
	}
	return w
}

// connect makes connections through the cluster, each of which says something.
func (w *clusterWorld) connect(count int) {
	w.t.Helper()
	for range count {
		_, err := traffic.Transfer{Target: netip.AddrPortFrom(w.VIP4(1), streamPort), Bytes: 100, Seed: 1}.Run(w.ctx, w.Client.Host)
		w.must(err)
	}
}

// TestClusterView asserts that any node of three shows all of the cluster and
// changes it: members, sums of what all count, drained members, keys, differences;
// and that a member that does not answer is named.
func TestClusterView(t *testing.T) {
	t.Parallel()
	w := newViewWorld(t)
	names := []string{"lb1", "lb2", "lb3"}
	for i := range w.Nodes {
		m := untilTold(w, i, "all members are alive and well, and one has the VIP", func(_ int, m *api.ClusterMembers) bool {
			owned := 0
			for _, one := range m.Members {
				if one.VIPs != nil {
					owned += one.VIPs.Owned
				}
			}
			return m.Answered == 3 && owned == 1 && !slices.ContainsFunc(m.Members, func(one api.ClusterMember) bool { return one.State != "alive" || one.Health != api.HealthOK })
		}, "cluster", "members")
		for j, one := range m.Members {
			if one.Name != names[j] || one.Self != (i == j) || one.WireMin != 1 || one.Address != w.Balancers[j].IPv4.String()+":7946" {
				t.Errorf("%+v", one)
			}
		}
	}
	untilTold(w, 1, "all agree", func(code int, s *api.ClusterStatus) bool {
		return code == 0 && s.Health == api.HealthOK && len(s.Agreements) == 7 && !slices.ContainsFunc(s.Agreements, func(a api.Agreement) bool { return len(a.Values) != 1 })
	}, "cluster", "status")
	untilTold(w, 2, "nothing differs", func(code int, d *api.ClusterDiff) bool { return code == 0 && d.Same && len(d.Nodes) == 3 }, "cluster", "diff")

	// Whichever node the connections went by, all of them tell of all.
	w.connect(20)
	for i := range w.Nodes {
		s := untilTold(w, i, "20 flows", func(_ int, p *api.SummedServicePage) bool { return len(p.Services) == 1 && p.Services[0].Flows == 20 }, "services", "--all")
		sum := uint64(0)
		for _, n := range s.Services[0].Nodes {
			sum += n.Flows
		}
		if sum != 20 || len(s.Answered) != 3 || len(s.Services[0].Nodes) != 3 {
			t.Errorf("%+v", s)
		}
	}
	b := untilTold(w, 0, "both backends", func(_ int, p *api.SummedBackendPage) bool { return len(p.Backends) == 2 }, "backends", "--all")
	if b.Backends[0].Flows+b.Backends[1].Flows != 20 || len(b.Backends[0].States) != 1 {
		t.Errorf("%+v", b)
	}
	var one api.Status
	if code, said := w.tell(0, &one, "status", "--node", "lb3"); code != 0 || one.Node != "lb3" {
		t.Errorf("%d, %s: %+v", code, said, one)
	}

	// Drained from elsewhere, and put back.
	var d api.MemberDrain
	if code, said := w.tell(0, &d, "drain", "lb2", "--wait"); code != 0 || d.Drained == nil || d.State.Phase != "drained" || !strings.HasSuffix(d.Drained.By, " on lb1") {
		t.Fatalf("%d, %s: %+v", code, said, d)
	}
	untilTold(w, 2, "lb3 knows it", func(_ int, m *api.ClusterMembers) bool {
		return m.Members[1].Drained != nil && m.Members[1].Phase == "drained"
	}, "cluster", "members")
	w.connect(2)
	d = api.MemberDrain{}
	if code, said := w.tell(2, &d, "undrain", "lb2"); code != 0 || d.Drained != nil {
		t.Fatalf("%d, %s: %+v", code, said, d)
	}
	untilTold(w, 1, "lb2 is in service", func(_ int, s *api.DrainState) bool { return s.Phase == "in_service" }, "drain", "status")

	// One key before and after, another one, on all.
	before := untilTold(w, 0, "one key", func(_ int, k *api.ClusterKeys) bool { return len(k.Keys) == 1 && len(k.Keys[0].Primary) == 3 }, "cluster", "key", "list")
	var r api.ClusterKeyRotation
	if code, said := w.tell(1, &r, "cluster", "key", "rotate"); code != 0 || !r.Complete || len(r.Nodes) != 3 {
		t.Fatalf("%d, %s: %+v", code, said, r)
	}
	untilTold(w, 2, "another key", func(_ int, k *api.ClusterKeys) bool {
		return len(k.Keys) == 1 && len(k.Keys[0].Primary) == 3 && k.Keys[0].Fingerprint == r.Fingerprint && r.Fingerprint != before.Keys[0].Fingerprint
	}, "cluster", "key", "list")

	// A node that is dead is said to be missing, and is still drained for when it is back.
	w.must(w.Kill(w.ctx, 2))
	s := untilTold(w, 0, "lb3 is missing", func(_ int, s *api.NodeSummaries) bool {
		return slices.Equal(s.Answered, names[:2]) && s.Health != api.HealthOK && len(s.Unanswered) == 1
	}, "status", "--all")
	if s.Unanswered[0].Node != "lb3" || s.Unanswered[0].Error == "" {
		t.Errorf("%+v", s.Unanswered)
	}
	untilTold(w, 1, "lb3 is dead", func(_ int, s *api.ClusterStatus) bool {
		return s.Counts.Dead == 1 && slices.ContainsFunc(s.Conditions, func(c api.Condition) bool { return c.Subject == "member lb3" })
	}, "cluster", "status")
	d = api.MemberDrain{}
	if code, said := w.tell(0, &d, "drain", "lb3"); code != 0 || d.Drained == nil || d.State != nil || d.Error != "it is taken for dead" {
		t.Errorf("%d, %s: %+v", code, said, d)
	}
	w.must(w.Nodes[2].Launch(w.ctx))
	untilTold(w, 0, "lb3 is back, and drained", func(_ int, d *api.MemberDrain) bool { return d.State != nil && d.State.Phase != "in_service" }, "drain", "status", "lb3")
}

// TestClusterTablesDiffer gives a node another hash seed, by which it chooses other
// backends: every node raises the alarm, and says where it comes from.
func TestClusterTablesDiffer(t *testing.T) {
	t.Parallel()
	w := newViewWorld(t)
	w.must(w.Nodes[2].Stop())
	w.must(w.Nodes[2].Write(strings.Replace(w.Config(2), "name = \"lb3\"\n", "name = \"lb3\"\nhash_seed = \"0123456789abcdef0123456789abcdef\"\n", 1)))
	w.must(w.Nodes[2].Launch(w.ctx))
	for i := range w.Nodes {
		s := untilTold(w, i, "the alarm", func(code int, s *api.ClusterStatus) bool { return code == 1 && len(s.Mismatches) > 0 }, "cluster", "status")
		if m := s.Mismatches[0]; m.Count != 1 || !slices.Equal(m.Pools, []string{"web"}) || m.Node != "lb3" && m.Other != "lb3" {
			t.Errorf("%+v", m)
		}
	}
	w.untilCondition([]int{2}, "cluster", "web", "differ")
	d := untilTold(w, 0, "the reason", func(code int, d *api.ClusterDiff) bool {
		return code == 1 && slices.ContainsFunc(d.Differences, func(o api.Difference) bool { return o.Kind == "table" })
	}, "cluster", "diff", "lb3")
	at := slices.IndexFunc(d.Differences, func(o api.Difference) bool { return o.Kind == "table" })
	if o := d.Differences[at]; o.Name != "web" || o.Why != "the hash seeds differ" || len(o.Values) != 2 {
		t.Errorf("%+v", o)
	}
	metrics, err := w.Nodes[2].Client().Open(w.ctx, "GET", "/metrics", nil, nil)
	w.must(err)
	defer metrics.Close()
	var text bytes.Buffer
	_, err = text.ReadFrom(metrics)
	w.must(err)
	if !strings.Contains(text.String(), "\nfairlead_cluster_table_mismatch{member=\"lb1\"} 1\n") && !strings.Contains(text.String(), "\nfairlead_cluster_table_mismatch{member=\"lb2\"} 1\n") {
		t.Error("no series of the mismatch")
	}
}
