package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTargets compares made-up rounds with what is wanted.
func TestTargets(t *testing.T) {
	who := contestants()
	k := &kit{profile: &profile{}, contestants: who}
	a := &collected{c: Case{Arms: 1, Protocol: udp, Size: 60, Flows: 10_000}, kit: k, rounds: make([][]round, len(who)), notRun: make([]string, len(who)), failed: make([][]string, len(who)), reasons: make([]map[string]uint64, len(who))}
	set := func(name string, rounds ...round) { a.rounds[a.place(name)] = rounds }
	set("c-libxdp", round{mpps: 2, totalNS: 500}, round{mpps: 1, totalNS: 1000}, round{failed: true})
	set("fairlead-rings", round{mpps: 1.9}, round{mpps: 0.95}, round{mpps: 9})
	set("fairlead-nat", round{mpps: 1.9, totalNS: 700}, round{mpps: 0.95, totalNS: 1400})
	set("fairlead-l2", round{mpps: 1.8, totalNS: 800}, round{mpps: 0.9, totalNS: 1600})
	set("nftables-dnat", round{mpps: 1, totalNS: 1000}, round{mpps: 0.5, totalNS: 2000})
	set("xdp-encap", round{mpps: 10}, round{mpps: 5})
	set("fairlead-ipip-memo", round{mpps: 5.4}, round{mpps: 2.7})

	r := a.result()
	var table strings.Builder
	if err := writeTargets(&table, &Run{Cases: []CaseResult{*r}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(table.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	const in = "one-arm, udp, 60 bytes, 10k flows"
	want := []string{
		"",
		"Targets (medians of the ratios within rounds)",
		"compared with figure case ratios wanted",
		"c-libxdp Mpps " + in + " rings 0.95 >= 0.95 met",
		"c-libxdp Mpps " + in + " nat 0.95, l2 0.90 >= 0.92 not met by l2",
		"nftables-dnat Mpps " + in + " nat 1.90, l2 1.80 >= 1.80 met",
		"nftables-dnat total ns " + in + " nat 0.70, l2 0.80 <= 0.70 not met by l2",
		"Katran, assumed at 0.36 x xdp-encap Mpps " + in + " ipip-memo 1.50 >= 1.50 met",
	}
	if !slices.Equal(got, want) {
		t.Errorf("targets:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got, want := r.Katran.String(), "Katran is not run; assumed at 0.36 of xdp-encap it would forward 2.70 Mpps; fairlead-ipip-memo has 1.50 times that"; got != want {
		t.Errorf("%q, want %q", got, want)
	}

	a.c.Arms = 2
	if r := a.result(); r.Katran != nil || slices.ContainsFunc(r.Targets, func(t Target) bool { return t.Share > 0 }) {
		t.Errorf("with two arms there is no share of Katran's known: %+v", r)
	}
	a.c.Size = 512
	if r := a.result(); len(r.Targets) > 0 {
		t.Errorf("targets where there are none: %+v", r.Targets)
	}
}

// TestEveryTargetIsMeasured looks for the cases and the contestants of all
// targets in the full profile, which takes no longer than half an hour or so.
func TestEveryTargetIsMeasured(t *testing.T) {
	full, err := profileNamed("full")
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range targets() {
		at := slices.IndexFunc(full.cases, one.in)
		if at < 0 {
			t.Errorf("no case for the target %+v", one)
			continue
		}
		for _, name := range append(slices.Clone(one.of), one.reference) {
			// Conntrack is too small for a million flows on most machines.
			if !slices.Contains(contestantNames(), name) || !full.selected(full.cases[at], name) {
				t.Errorf("%v: %s takes no part", full.cases[at], name)
			}
		}
	}
	k := &kit{profile: full, contestants: contestants()}
	if d, n := k.estimate(); d > 35*time.Minute || n < 100 {
		t.Errorf("the full profile makes %d measurements in %v", n, d)
	}
}
