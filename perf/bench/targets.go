package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// target is a ratio that Fairlead is to reach in some cases.
type target struct {
	of        []string // contestants
	reference string
	share     float64 // of the reference's figure; 0: all of it
	cpu       bool    // compare total CPU time a frame; else frames a second
	want      float64 // at least; for CPU time, at most
	in        func(Case) bool
}

// methods are Fairlead's contestants that put every packet through user space.
var methods = []string{"fairlead-nat", "fairlead-ipip", "fairlead-gue", "fairlead-l2"}

// katranShare is what Katran is assumed to do of xdp-encap's frames a second.
// Katran itself is not run.
const katranShare = 0.36

// targets are all there are.
func targets() []target {
	c, nft, encap := cForwarder.name, nftablesDNAT.name, xdpEncapsulation.name
	return []target{
		{of: []string{plainForwarder.name}, reference: c, want: 0.95, in: plainCase(10_000)},
		{of: methods, reference: c, want: 0.92, in: plainCase(10_000)},
		{of: methods, reference: c, want: 0.90, in: plainCase(1_000_000)},
		{of: methods, reference: nft, want: 1.8, in: plainCase(10_000)},
		{of: methods, reference: nft, want: 4, in: newSYNs},
		{of: methods, reference: nft, want: 0.70, cpu: true, in: plainCase(10_000)},
		{of: methods, reference: asavieForwarder.name, want: 1.1, in: plainCase(10_000)},
		{of: methods, reference: asavieByReadme.name, want: 1.1, in: plainCase(10_000)},
		{of: []string{"fairlead-ipip" + withMemo}, reference: encap, share: katranShare, want: 1.5, in: katranCase},
	}
}

// plainCase are short UDP frames over IPv4 in so many flows, as fast as they can be made.
func plainCase(flows int) func(Case) bool {
	return func(c Case) bool {
		return c == Case{Arms: c.Arms, Protocol: udp, Size: 60, Flows: flows}
	}
}

func newSYNs(c Case) bool { return c == Case{Arms: c.Arms, Protocol: tcp, Size: 60, Flows: endless} }

// katranCase is the one in which Katran's share is known.
func katranCase(c Case) bool { return c.Arms == 1 && plainCase(10_000)(c) }

// Target is a target with what was found in one case.
type Target struct {
	Reference string             `json:"reference"`
	Share     float64            `json:"share,omitempty"`
	Figure    string             `json:"figure"` // mpps or totalNs
	Ratios    map[string]float64 `json:"ratios"` // by contestant: medians of the ratios within rounds
	Want      float64            `json:"want"`
	AtMost    bool               `json:"atMost,omitempty"` // else at least
	Met       bool               `json:"met"`              // by all
}

// reached reports whether a ratio is what is wanted.
func (t *Target) reached(ratio float64) bool {
	if t.AtMost {
		return ratio <= t.Want
	}
	return ratio >= t.Want
}

// targets compares the case's rounds with what is wanted in it.
func (a *collected) targets() []Target {
	var found []Target
	for _, t := range targets() {
		reference := a.index(t.reference)
		if !t.in(a.c) || reference < 0 {
			continue
		}
		one := Target{Reference: t.reference, Share: t.share, Figure: "mpps", Ratios: map[string]float64{}, Want: t.want, AtMost: t.cpu, Met: true}
		figure := func(r round) float64 { return r.mpps }
		if t.cpu {
			one.Figure, figure = "totalNs", func(r round) float64 { return r.totalNS }
		}
		for _, name := range t.of {
			i := a.index(name)
			if i < 0 {
				continue
			}
			ratio := a.ratio(i, reference, figure)
			if t.share > 0 {
				ratio /= t.share
			}
			one.Ratios[name] = ratio
			one.Met = one.Met && one.reached(ratio)
		}
		if len(one.Ratios) > 0 {
			found = append(found, one)
		}
	}
	return found
}

// index is the place of a contestant that has figures, -1 if there is none.
func (a *collected) index(name string) int {
	return slices.IndexFunc(a.kit.contestants, func(c contestant) bool {
		return c.name == name && len(kept(a.rounds[a.place(name)])) > 0
	})
}

// place is a contestant's place in the list, be it with or without figures.
func (a *collected) place(name string) int {
	return slices.IndexFunc(a.kit.contestants, func(c contestant) bool { return c.name == name })
}

// writeTargets lists what was wanted and what was found.
func writeTargets(out io.Writer, r *Run) error {
	if !slices.ContainsFunc(r.Cases, func(c CaseResult) bool { return len(c.Targets) > 0 }) {
		return nil
	}
	fmt.Fprintln(out, "\nTargets (medians of the ratios within rounds)")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "compared with\tfigure\tcase\tratios\twanted\t")
	for i := range r.Cases {
		for _, one := range r.Cases[i].Targets {
			fmt.Fprintf(t, "%s\t%s\t%v\t%s\t%s\t%s\n", one.referenceText(), one.figureText(), r.Cases[i].Case, one.ratiosText(), one.wantText(), one.verdict())
		}
	}
	return t.Flush()
}

func (t *Target) referenceText() string {
	if t.Share > 0 {
		return fmt.Sprintf("Katran, assumed at %.2f x %s", t.Share, t.Reference)
	}
	return t.Reference
}

func (t *Target) figureText() string {
	if t.AtMost {
		return "total ns"
	}
	return "Mpps"
}

func (t *Target) ratiosText() string {
	var parts []string
	for _, name := range contestantNames() {
		if ratio, ok := t.Ratios[name]; ok {
			parts = append(parts, fmt.Sprintf("%s %.2f", strings.TrimPrefix(name, "fairlead-"), ratio))
		}
	}
	return strings.Join(parts, ", ")
}

func (t *Target) wantText() string {
	if t.AtMost {
		return fmt.Sprintf("<= %.2f", t.Want)
	}
	return fmt.Sprintf(">= %.2f", t.Want)
}

// verdict names those that missed the target when others met it.
func (t *Target) verdict() string {
	if t.Met {
		return "met"
	}
	var missed []string
	for _, name := range contestantNames() {
		if ratio, ok := t.Ratios[name]; ok && !t.reached(ratio) {
			missed = append(missed, strings.TrimPrefix(name, "fairlead-"))
		}
	}
	if len(missed) == len(t.Ratios) {
		return "not met"
	}
	return "not met by " + strings.Join(missed, ", ")
}
