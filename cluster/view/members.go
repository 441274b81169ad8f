package view

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"fairlead/cluster"
	"fairlead/controlplane/api"
)

const factsPath = "/v1/facts"

// ClusterMembers implements api.ClusterProvider.
func (v *View) ClusterMembers(ctx context.Context) (api.ClusterMembers, error) {
	if err := v.alone(); err != nil {
		return api.ClusterMembers{}, err
	}
	answers := askAll[api.NodeFacts](ctx, v, v.nodes(), factsPath)
	out := api.ClusterMembers{Node: v.cfg.Name, Members: v.describe(answers)}
	for i := range answers {
		if answers[i].err == nil {
			out.Answered++
		}
	}
	return out, nil
}

// drains are the members that are drained, by name.
func (v *View) drains() map[string]api.DrainNotice {
	if v.cfg.Drains == nil {
		return nil
	}
	return v.cfg.Drains()
}

// describe puts together what is known of members and what they say.
func (v *View) describe(answers []answer[api.NodeFacts]) []api.ClusterMember {
	drained := v.drains()
	out := make([]api.ClusterMember, 0, len(answers))
	for i := range answers {
		a := &answers[i]
		m := api.ClusterMember{
			Name: a.node.Name, Self: a.node.Name == v.cfg.Name, State: string(a.node.State), Since: a.node.Changed.UTC(),
			Address: a.node.Gossip.String(), Stream: a.node.Stream.String(), Version: a.node.Software, WireMin: a.node.WireMin, WireMax: a.node.WireMax,
			Error: a.unanswered(),
		}
		if !a.node.Started.IsZero() {
			started := a.node.Started.UTC()
			m.Started = &started
		}
		if d, is := drained[m.Name]; is {
			m.Drained = &d
		}
		if a.err == nil {
			f := &a.value
			m.Health, m.Phase, m.VIPs, m.Load = f.Health, f.Phase, &f.VIPs, &f.Load
		}
		out = append(out, m)
	}
	return out
}

// ClusterStatus implements api.ClusterProvider.
func (v *View) ClusterStatus(ctx context.Context) (api.ClusterStatus, error) {
	if err := v.alone(); err != nil {
		return api.ClusterStatus{}, err
	}
	nodes := v.nodes()
	answers := askAll[api.NodeFacts](ctx, v, nodes, factsPath)
	s := api.ClusterStatus{
		Node: v.cfg.Name, Health: api.HealthOK, Members: v.describe(answers), Mismatches: v.allMismatches(), Agreements: agreements(answers),
		Wire: cluster.CommonWire(nodes),
	}
	if v.cfg.Counters != nil {
		s.Shared = v.cfg.Counters()
	}
	s.Counts = countMembers(s.Members)
	v.judge(&s, answers)
	return s, nil
}

func countMembers(members []api.ClusterMember) api.ClusterCounts {
	c := api.ClusterCounts{Members: len(members)}
	for i := range members {
		m := &members[i]
		switch cluster.State(m.State) {
		case cluster.Alive:
			c.Alive++
		case cluster.Suspect:
			c.Suspect++
		case cluster.Dead:
			c.Dead++
		case cluster.Left:
			c.Left++
		}
		if m.Drained != nil {
			c.Drained++
		}
		if m.Error == "" {
			c.Answered++
		}
	}
	return c
}

// agreements are what is to be equal on all members that have answered.
func agreements(answers []answer[api.NodeFacts]) []api.Agreement {
	what := []struct {
		name string
		of   func(*api.NodeFacts) string
	}{
		{"software", func(f *api.NodeFacts) string { return f.Version }},
		{"hash_seed", func(f *api.NodeFacts) string { return f.HashSeed }},
		{"vips", func(f *api.NodeFacts) string { return kindOf(f, "vip") }},
		{"pools", func(f *api.NodeFacts) string { return kindOf(f, "pool") }},
		{"services", func(f *api.NodeFacts) string { return kindOf(f, "service") }},
		{"settings", func(f *api.NodeFacts) string { return kindOf(f, "setting") }},
		{"tables", func(f *api.NodeFacts) string { return f.Tables.Digest }},
	}
	var out []api.Agreement
	for _, w := range what {
		have := make(map[string]string)
		for i := range answers {
			if a := &answers[i]; a.err == nil {
				if value := w.of(&a.value); value != "" { // an older node may not say
					have[a.node.Name] = value
				}
			}
		}
		out = append(out, api.Agreement{What: w.name, Values: valuesOf(have)})
	}
	return out
}

// kindOf is the digest of the objects of a kind.
func kindOf(f *api.NodeFacts, kind string) string {
	for _, k := range f.Kinds {
		if k.Kind == kind {
			return k.Digest
		}
	}
	return ""
}

// mostConditions is how many conditions a status lists.
const mostConditions = 100

// judge says how the cluster is. What differs for the moment that a change takes
// is shown under agreements and is no condition.
func (v *View) judge(s *api.ClusterStatus, answers []answer[api.NodeFacts]) {
	add := func(health api.Health, subject, format string, args ...any) {
		s.Health = worse(s.Health, health)
		if len(s.Conditions) < mostConditions {
			s.Conditions = append(s.Conditions, api.Condition{Health: health, Subject: subject, Message: fmt.Sprintf(format, args...)})
		}
	}
	for i := range s.Members {
		m := &s.Members[i]
		switch {
		case m.State == string(cluster.Left):
		case m.State != string(cluster.Alive):
			add(api.HealthDegraded, "member "+m.Name, "it is %s since %s", m.State, m.Since.Local().Format("2006-01-02 15:04:05"))
		case m.Error != "":
			add(api.HealthDegraded, "member "+m.Name, "it does not answer: %s", m.Error)
		case m.Health == api.HealthFailing:
			add(api.HealthDegraded, "member "+m.Name, "it is failing: fairlead status --node %s", m.Name)
		}
		if m.Drained != nil && m.State != string(cluster.Left) {
			add(api.HealthDegraded, "member "+m.Name, "it is drained by %s", m.Drained.By)
		}
	}
	if s.Wire == 0 {
		add(api.HealthFailing, "versions", "there is no version of messages that all members read; see `fairlead cluster members -o wide`")
	}
	for _, m := range s.Mismatches {
		add(api.HealthFailing, "tables", "between %s and %s %s since %s, of %s among them: fairlead cluster diff", m.Node, m.Other, tableCount(m.Count),
			m.Since.Local().Format("15:04:05"), strings.Join(m.Pools, ", "))
	}
	for _, text := range sidedViews(answers) {
		add(api.HealthDegraded, "network", "%s", text)
	}
	if v.cfg.Alarms != nil {
		for _, c := range v.cfg.Alarms() {
			add(c.Health, c.Subject, "%s", c.Message)
		}
	}
	slices.SortStableFunc(s.Conditions, func(a, b api.Condition) int { return -cmp.Compare(badness[a.Health], badness[b.Health]) })
}

func tableCount(n int) string {
	if n == 1 {
		return "1 pool's table differs"
	}
	return fmt.Sprintf("%d pools' tables differ", n)
}

// sidedViews say which members that this node reaches do not see one another.
func sidedViews(answers []answer[api.NodeFacts]) (out []string) {
	reached := make(map[string]bool)
	for i := range answers {
		if answers[i].err == nil {
			reached[answers[i].node.Name] = true
		}
	}
	for i := range answers {
		if answers[i].err != nil {
			continue
		}
		for _, l := range answers[i].value.Lost {
			if reached[l.Node] {
				out = append(out, fmt.Sprintf("%s takes %s, which answers here, for %s", answers[i].node.Name, l.Node, l.State))
			}
		}
	}
	return out
}
