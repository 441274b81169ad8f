package view

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/controlplane/api"
)

// factsOf are the facts of a node with one of everything.
func factsOf(name string) api.NodeFacts {
	return api.NodeFacts{
		Node: name, Version: "v1", Health: api.HealthOK, Phase: "in_service", VIPs: api.VIPCounts{All: 2, Owned: 1}, Load: api.Load{PacketsPerSecond: 5},
		HashSeed: "seed", Kinds: []api.KindFacts{{Kind: "vip", Count: 1, Digest: "v"}, {Kind: "pool", Count: 1, Digest: "p"}, {Kind: "service", Count: 1, Digest: "s"}, {Kind: "setting", Digest: "0"}},
		Tables: api.TableFacts{Pools: 1, Digest: "t"},
	}
}

// TestMembers asserts that every member is listed, with what it says of itself or
// the reason why it does not.
func TestMembers(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := newRig(t, func(_ string, c *Config) {
		c.Drains = func() map[string]api.DrainNotice { return map[string]api.DrainNotice{"b": {Since: at, By: "alice"}} }
	}, "a", "b", "c", "d")
	for _, name := range []string{"a", "b", "c", "d"} {
		r.says[name].set(factsPath, factsOf(name))
	}
	r.says["c"].block(true)
	r.world.Kill("d")
	got, err := r.views["a"].ClusterMembers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, m := range got.Members {
		line := fmt.Sprintf("%s %t %s %s %d-%d %s %s %s", m.Name, m.Self, m.State, m.Version, m.WireMin, m.WireMax, m.Address, m.Health, m.Error)
		if m.Drained != nil {
			line += " drained by " + m.Drained.By
		}
		if m.VIPs != nil {
			line += fmt.Sprintf(" %d VIPs", m.VIPs.Owned)
		}
		said = append(said, line)
	}
	want := []string{
		"a true alive test 1-1 192.0.2.1:7946 ok  1 VIPs", "b false alive test 1-1 192.0.2.2:7946 ok  drained by alice 1 VIPs",
		"c false alive test 1-1 192.0.2.3:7946  no answer within 200ms", "d false dead test 1-1 192.0.2.4:7946  it is taken for dead",
	}
	if !slices.Equal(said, want) || got.Answered != 2 || got.Node != "a" {
		t.Errorf("%s\nwant\n%s\n%+v", strings.Join(said, "\n"), strings.Join(want, "\n"), got)
	}
}

// TestStatus asserts what is said of a cluster that is not as it is wanted, the
// worst first, and that nothing is said of one that is.
func TestStatus(t *testing.T) {
	alarms := []api.Condition{}
	r := newRig(t, func(_ string, c *Config) {
		c.Drains = func() map[string]api.DrainNotice { return map[string]api.DrainNotice{"b": {By: "alice"}} }
		c.Alarms = func() []api.Condition { return alarms }
		c.Counters = func() map[string]uint64 { return map[string]uint64{"store_entries": 3} }
	}, "a", "b", "c", "d", "e")
	for name, s := range r.says {
		s.set(factsPath, factsOf(name))
	}
	for _, v := range r.views {
		v.cfg.Drains = nil
	}
	got, err := r.views["a"].ClusterStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Health != api.HealthOK || len(got.Conditions) > 0 || got.Wire != 1 || got.Shared["store_entries"] != 3 || got.Counts != (api.ClusterCounts{Members: 5, Alive: 5, Answered: 5}) {
		t.Errorf("%+v", got)
	}
	for _, a := range got.Agreements {
		if !a.Agreed() || len(a.Values) != 1 {
			t.Errorf("%+v", a)
		}
	}

	r.views["a"].cfg.Drains = func() map[string]api.DrainNotice { return map[string]api.DrainNotice{"b": {By: "alice"}} }
	alarms = append(alarms, api.Condition{Health: api.HealthDegraded, Subject: "health", Message: "c is suspected"})
	f := factsOf("b")
	f.Lost = []api.LostMember{{Node: "c", State: "dead"}, {Node: "d", State: "dead"}}
	f.HashSeed, f.Version = "other", "v2"
	r.says["b"].set(factsPath, f)
	f = factsOf("c")
	f.Health = api.HealthFailing
	r.says["c"].set(factsPath, f)
	r.world.Kill("d")
	r.says["e"].block(true)
	if err := r.world.Node("b").Store().Put("live/b/tables", []byte(`{"mismatches":[{"node":"x","other":"a","since":"2026-01-02T03:04:05Z","count":2,"pools":["web"]}],"later":1}`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a has b's word", func() bool { return len(r.views["a"].allMismatches()) == 1 })
	got, err = r.views["a"].ClusterStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, c := range got.Conditions {
		said = append(said, fmt.Sprintf("%s %s: %s", c.Health, c.Subject, c.Message))
	}
	since := got.Mismatches[0].Since.Local().Format("15:04:05")
	dead := got.Members[3].Since.Local().Format("2006-01-02 15:04:05")
	want := []string{
		"failing tables: between b and a 2 pools' tables differ since " + since + ", of web among them: fairlead cluster diff",
		"degraded member b: it is drained by alice",
		"degraded member c: it is failing: fairlead status --node c",
		"degraded member d: it is dead since " + dead,
		"degraded member e: it does not answer: no answer within 200ms",
		"degraded network: b takes c, which answers here, for dead",
		"degraded health: c is suspected",
	}
	if !slices.Equal(said, want) || got.Health != api.HealthFailing {
		t.Errorf("%s\n%s\nwant\n%s", got.Health, strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
	same(t, "seeds", got.Agreements[1], api.Agreement{What: "hash_seed", Values: []api.NodesValue{{Value: "seed", Nodes: []string{"a", "c"}}, {Value: "other", Nodes: []string{"b"}}}})
	if r.views["a"].Mismatches()["b"] != 2 {
		t.Error(r.views["a"].Mismatches())
	}
}

// TestDrainMember asserts that a member is drained on behalf of who asks for it,
// also one that does not answer, and what is refused.
func TestDrainMember(t *testing.T) {
	drained := map[string]api.DrainNotice{}
	var done []string
	failure := error(nil)
	r := newRig(t, func(name string, c *Config) {
		c.Drains = func() map[string]api.DrainNotice { return drained }
		if name == "c" {
			return
		}
		c.Drain = func(_ context.Context, node string, wanted bool, by string) error {
			done = append(done, fmt.Sprint(node, wanted, by))
			if failure != nil {
				return failure
			}
			delete(drained, node)
			if wanted {
				drained[node] = api.DrainNotice{By: by}
			}
			return nil
		}
	}, "a", "b", "c")
	r.says["b"].set("/v1/drain", api.DrainState{Phase: "leaving"})
	got, err := r.views["a"].DrainMember(t.Context(), "b", true)
	if err != nil || got.Drained == nil || got.State == nil || got.State.Phase != "leaving" {
		t.Errorf("%+v, %v", got, err)
	}
	r.world.Kill("b")
	got, err = r.views["a"].DrainMember(t.Context(), "b", false)
	if err != nil || got.Drained != nil || got.State != nil || got.Error != "it is taken for dead" {
		t.Errorf("%+v, %v", got, err)
	}
	if fmt.Sprint(done) != "[btrue bfalse]" {
		t.Error(done)
	}
	failure = errors.New("the disk is full")
	for _, c := range []struct {
		by, node string
		drained  bool
		code     api.Code
		want     string
	}{
		{"a", "b", false, api.Conflict, "b is not drained"},
		{"a", "x", true, api.NotFound, "there is no member \"x\"; `fairlead cluster members` lists them"},
		{"a", "b", true, api.Unavailable, "the disk is full"},
		{"c", "b", true, api.Unavailable, "this node cannot drain others"},
	} {
		_, err := r.views[c.by].DrainMember(t.Context(), c.node, c.drained)
		if e, is := errors.AsType[*api.Error](err); !is || e.Code != c.code || e.Message != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestKeys asserts which members have which keys, and which use them.
func TestKeys(t *testing.T) {
	r := newRig(t, func(name string, c *Config) {
		c.Keys = func() []string { return map[string][]string{"a": {"22", "11"}, "b": {"22"}, "c": {"11"}}[name] }
		c.Rotate = func(context.Context) (api.ClusterKeyRotation, error) {
			return api.ClusterKeyRotation{Fingerprint: "33"}, nil
		}
	}, "a", "b", "c", "d")
	for _, name := range []string{"a", "b", "c"} {
		r.says[name].set(keysPath, r.views[name].LocalKeys())
	}
	r.world.Kill("d")
	got, err := r.views["b"].ClusterKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "keys", got, api.ClusterKeys{
		Keys:       []api.ClusterKey{{Fingerprint: "22", Primary: []string{"a", "b"}, Nodes: []string{"a", "b"}}, {Fingerprint: "11", Primary: []string{"c"}, Nodes: []string{"a", "c"}}},
		Unanswered: []api.NodeError{{Node: "d", Error: "it is taken for dead"}},
	})
	if got, err := r.views["b"].RotateClusterKey(t.Context()); err != nil || got.Fingerprint != "33" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestSuspectServes asserts that a member under suspicion is still asked.
func TestSuspectServes(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	r.says["b"].set("/v1/status", api.Summary{Node: "b"})
	n := serving("b")
	n[0].State = cluster.Suspect
	if got := askAll[api.Summary](t.Context(), r.views["a"], n, "/v1/status"); got[0].err != nil || got[0].value.Node != "b" {
		t.Errorf("%+v", got)
	}
}
