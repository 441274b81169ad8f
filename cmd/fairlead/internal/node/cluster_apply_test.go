package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/apply"
	"fairlead/cluster/clustertest"
	"fairlead/configs"
	"fairlead/controlplane/api"
	"fairlead/controlplane/desired"
)

// sharer is a node with everything of its desired state, and without a data path.
type sharer struct {
	*Node
	t    testing.TB
	path string
	dir  string

	mu      sync.Mutex
	inForce *desired.Desired
	room    clusterRoom
}

const (
	ownPart = "[node]\nname = %q\n[cluster]\nkey_file = \"/k\"\nseeds = [\"192.0.2.1\"]\n"
	webPool = "[[pool]]\nname = \"web\"\n[[pool.backend]]\naddress = \"198.18.0.1:80\"\n[[pool.backend]]\naddress = \"198.18.0.2:80\"\n"
	webPart = webPool + "[[service]]\nname = \"web\"\nvip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = 80\npool = \"web\"\nmethod = \"l2\"\n"
	dnsPart = "[[pool]]\nname = \"dns\"\n[[pool.backend]]\naddress = \"198.18.0.9:53\"\n[[service]]\nname = \"dns\"\nvip = \"203.0.113.53\"\nprotocol = \"udp\"\nport = 53\npool = \"dns\"\nmethod = \"l2\"\n"
)

func quietly(*configs.Node) *slog.Logger { return slog.New(slog.DiscardHandler) }

// share runs a node of a world with a file.
func share(t testing.TB, w *clustertest.World, name, file string) *sharer {
	t.Helper()
	s := &sharer{t: t, dir: t.TempDir()}
	s.path = filepath.Join(s.dir, "fairlead.toml")
	s.write(fmt.Sprintf(ownPart, name) + file)
	s.begin(w.Node(name))
	t.Cleanup(s.end)
	return s
}

func (s *sharer) write(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sharer) begin(member *clustertest.Node) {
	s.t.Helper()
	d, err := LoadDesired(s.path, filepath.Join(s.dir, "state"), quietly)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Node = &Node{cfg: d.Config, log: d.Log}
	s.cluster = &clustered{Members: member.Members(), Peers: member.Peers(), Store: member.Store(), Log: d.Log}
	if s.room, err = openApply(s.Node); err != nil {
		s.t.Fatal(err)
	}
	s.Follow(d)
	s.inForce = d.begun
	d.store.Attach(func(next *desired.Desired) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inForce = next
		return nil
	})
	close(d.attached)
	if err := s.room.start(context.Background()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sharer) end() {
	if err := s.room.close(); err != nil {
		s.t.Error(err)
	}
}

// services are the names of those in force.
func (s *sharer) services() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for i := range s.inForce.State.Services {
		names = append(names, s.inForce.State.Services[i].Name)
	}
	return strings.Join(names, " ")
}

func (s *sharer) condition(typ apply.ConditionType) string {
	for _, c := range s.desired.clusterConditions() {
		if string(c.Type) == string(typ) {
			return c.Message
		}
	}
	return ""
}

// patience is far more than anything takes.
const patience = 2 * time.Minute

func soon(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + what)
		}
	}
}

func serve(t *testing.T, names string, nodes ...*sharer) {
	t.Helper()
	for _, n := range nodes {
		soon(t, "node "+n.cfg.Node.Name+" serves "+names, func() bool { return n.services() == names })
	}
}

func threeSharers(t *testing.T) (*clustertest.World, []*sharer) {
	w := clustertest.New(t, "a", "b", "c")
	nodes := []*sharer{share(t, w, "a", webPart), share(t, w, "b", ""), share(t, w, "c", "[[snat]]\naddress = \"198.18.1.1\"\n")}
	serve(t, "web", nodes...)
	return w, nodes
}

func send(n *sharer, text string, q api.ApplyConfig) (api.ConfigResult, error) {
	q.Name, q.Text = "sent.toml", []byte(text)
	return n.ApplyConfig(context.Background(), q)
}

// TestOneFileServesAllNodes: what one node's file declares, and what is sent to
// another, is served by all; what belongs to a node stays with it.
func TestOneFileServesAllNodes(t *testing.T) {
	_, nodes := threeSharers(t)
	result, err := send(nodes[1], dnsPart, api.ApplyConfig{Comment: "names"})
	if err != nil || !result.Changed || len(result.Warnings) > 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	serve(t, "dns web", nodes...)
	if n := len(nodes[2].inForce.State.SNATs); n != 1 || len(nodes[0].inForce.State.SNATs) != 0 {
		t.Errorf("%d SNAT addresses on c", n)
	}
	h, err := nodes[0].ConfigHistory(t.Context())
	if err != nil || h.Versions[0].Node != "b" || h.Versions[0].Comment != "names" || h.Versions[0].Source != "api" {
		t.Errorf("history %+v, %v", h.Versions[0], err)
	}
	// Any node returns to what was before.
	if _, err := nodes[2].RollbackConfig(t.Context(), api.RollbackConfig{}); err != nil {
		t.Fatal(err)
	}
	serve(t, "web", nodes...)
}

// TestRefusalsAreWorded: the answers that operators of a cluster get.
func TestRefusalsAreWorded(t *testing.T) {
	_, nodes := threeSharers(t)
	const clash = "[[service]]\nname = \"x\"\nvip = \"198.18.1.1\"\nprotocol = \"tcp\"\nport = 80\npool = \"web\"\nmethod = \"l2\"\n"
	refused := func(err error, code api.Code, want string) {
		t.Helper()
		answer, is := err.(*api.Error)
		if !is || answer.Code != code || answer.Error() != want {
			t.Errorf("got %v, want %s: %s", err, code, want)
		}
	}
	_, err := send(nodes[0], clash, api.ApplyConfig{})
	refused(err, api.Invalid, `node "c" refuses the change, and it is made nowhere: `+nodes[2].path+`:7:11: SNAT address 198.18.1.1 is also a VIP`)
	_, err = send(nodes[0], "[[snat]]\naddress = \"198.18.1.9\"\n", api.ApplyConfig{})
	refused(err, api.Invalid, "sent.toml: 1 error\n  1:3: \"snat\" belongs to the node's own file; only services, pools, VIPs and timeouts are the same on all nodes of a cluster")
	nodes[1].write("[node]\nname = \"b\"\n")
	_, err = nodes[1].ReloadConfig(t.Context(), api.ChangeConfig{})
	refused(err, api.BadRequest, "the file has no [cluster] any more; the node leaves the cluster when it is started again")
	serve(t, "web", nodes...)
}

// TestFileOfANode: what is changed in a node's file is shared when it is reloaded,
// and what was there before is not.
func TestFileOfANode(t *testing.T) {
	_, nodes := threeSharers(t)
	reload := func(n *sharer, text string, q api.ChangeConfig) api.ConfigResult {
		t.Helper()
		n.write(fmt.Sprintf(ownPart, n.cfg.Node.Name) + text)
		result, err := n.ReloadConfig(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	reload(nodes[0], webPart+dnsPart, api.ChangeConfig{})
	serve(t, "web dns", nodes...)
	reload(nodes[1], dnsPart, api.ChangeConfig{DryRun: true})
	serve(t, "web dns", nodes...)
	reload(nodes[1], dnsPart, api.ChangeConfig{})
	serve(t, "dns", nodes...)
	soon(t, "a's file differs", func() bool { return nodes[0].condition(apply.FileDiffers) != "" })
	reload(nodes[0], webPart+dnsPart, api.ChangeConfig{})
	serve(t, "dns", nodes...) // nobody has changed it since
	reload(nodes[0], webPart+dnsPart, api.ChangeConfig{Publish: true})
	serve(t, "web dns", nodes...)
	diff, err := nodes[2].DiffConfig(t.Context(), api.DiffConfig{File: true, Name: "f", Text: []byte(fmt.Sprintf(ownPart, "c") + webPart)})
	if err != nil || !diff.Changed || diff.Version.Summary != "-1 service, -1 pool, -1 backend, -1 SNAT address" {
		t.Errorf("diff %+v, %v", diff.Version, err)
	}
}

func TestSettingsOfAllNodes(t *testing.T) {
	_, nodes := threeSharers(t)
	weight := 5
	for i, q := range []api.SetBackend{
		{Pool: "web", Backend: "198.18.0.1:80", State: "drained", Timeout: api.Duration(time.Hour)},
		{Pool: "web", Backend: "198.18.0.2:80", Weight: &weight},
	} {
		if _, err := nodes[i].SetBackend(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	count := func(want int) {
		t.Helper()
		for _, n := range nodes {
			soon(t, fmt.Sprintf("node %s has %d settings", n.cfg.Node.Name, want), func() bool { return len(n.desired.store.Settings()) == want })
		}
	}
	count(2)
	set := nodes[2].desired.store.Settings()
	if set[0].State != "drained" || set[0].Deadline.IsZero() || *set[1].Weight != 5 {
		t.Errorf("settings of c %+v", set)
	}
	if _, err := nodes[2].SetBackend(t.Context(), api.SetBackend{Pool: "web", Backend: "198.18.0.1:80", State: "enabled"}); err != nil {
		t.Fatal(err)
	}
	count(1)
	// A setting goes with its backend, for all nodes.
	nodes[0].write(fmt.Sprintf(ownPart, "a") + strings.Replace(webPart, "198.18.0.2", "198.18.0.3", 1))
	if _, err := nodes[0].ReloadConfig(t.Context(), api.ChangeConfig{}); err != nil {
		t.Fatal(err)
	}
	count(0)
	if list := nodes[2].cluster.Store.List(cluster.SettingPrefix); len(list) != 0 {
		soon(t, "it is no longer shared", func() bool { return len(nodes[2].cluster.Store.List(cluster.SettingPrefix)) == 0 })
	}
}

func TestConfirmOnAnotherNode(t *testing.T) {
	_, nodes := threeSharers(t)
	if _, err := send(nodes[0], dnsPart, api.ApplyConfig{Confirm: api.Duration(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	serve(t, "dns web", nodes...)
	_, err := send(nodes[1], "", api.ApplyConfig{})
	if answer, is := err.(*api.Error); !is || answer.Code != api.Conflict || !strings.Contains(answer.Message, "waits to be confirmed until") {
		t.Errorf("got %v", err)
	}
	if _, err := nodes[2].ConfirmConfig(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon(t, "nothing waits", func() bool {
		for _, n := range nodes {
			if n.desired.store.Status().Pending != nil {
				return false
			}
		}
		return true
	})
	if _, err := send(nodes[1], "", api.ApplyConfig{}); err != nil {
		t.Fatal(err)
	}
	serve(t, "web", nodes...)
}

// TestNodeBecomesOneOfSeveral: one that has served by its file goes on with it from
// its first moment in a cluster; it does not go back to a version from before.
func TestNodeBecomesOneOfSeveral(t *testing.T) {
	w := clustertest.New(t, "a")
	s := &sharer{t: t, dir: t.TempDir()}
	s.path = filepath.Join(s.dir, "fairlead.toml")
	s.write("[node]\nname = \"a\"\n" + webPart)
	d, err := LoadDesired(s.path, filepath.Join(s.dir, "state"), quietly)
	if err != nil {
		t.Fatal(err)
	}
	d.store.Attach(func(*desired.Desired) error { return nil })
	s.write(fmt.Sprintf(ownPart, "a") + webPart)
	s.begin(w.Node("a"))
	t.Cleanup(s.end)
	if s.services() != "web" {
		t.Fatalf("begins with %q", s.services())
	}
	soon(t, "it is shared", func() bool { _, there := s.cluster.Store.Get("desired/file"); return there })
	_, err = s.RollbackConfig(t.Context(), api.RollbackConfig{Version: 1})
	if want := "the file of that version has no [cluster]: it is from before this node was one of several, and cannot be returned to while it is"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	serve(t, "web", s)
}

func TestSettingsAreRead(t *testing.T) {
	for _, c := range []struct{ key, text, want string }{
		{"p/198.18.0.1:80", `{"state":"drained","weight":3,"since":"2031"}`, ""},
		{"a/b/[2001:db8::1]:0", `{"state":"disabled"}`, ""},
		{"p", `{"state":"drained"}`, "it names no pool"},
		{"p/198.18.0.1", `{"state":"drained"}`, "not an ip:port"},
		{"p/198.18.0.1:80", `{"state":"asleep"}`, `the state "asleep" is not known`},
		{"p/198.18.0.1:80", `{"state":"enabled","weight":70000}`, "the weight 70000 is out of range"},
		{"p/198.18.0.1:80", `{`, "unexpected end of JSON input"},
	} {
		_, err := readSetting(c.key, []byte(c.text))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.key, c.text, err, c.want)
		}
	}
}
