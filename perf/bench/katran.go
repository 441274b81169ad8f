package main

import "fmt"

// Katran is where Katran is assumed to be: a reference line, not a measurement.
type Katran struct {
	Mpps   float64            `json:"mpps"`
	Share  float64            `json:"share"` // of the Mpps of xdp-encap: an assumption
	Ratios map[string]float64 `json:"ratios"`
}

// katran is the reference line of a case, nil where it has none. Ratios are
// those of the contestants that do what Katran does.
func (a *collected) katran() *Katran {
	encap := a.index(xdpEncapsulation.name)
	if !katranCase(a.c) || encap < 0 {
		return nil
	}
	mpps := func(r round) float64 { return r.mpps }
	k := &Katran{Mpps: katranShare * median(each(a.rounds[encap], mpps)), Share: katranShare, Ratios: map[string]float64{}}
	for _, name := range []string{"fairlead-ipip", "fairlead-ipip" + withMemo} {
		if i := a.index(name); i >= 0 {
			k.Ratios[name] = a.ratio(i, encap, mpps) / katranShare
		}
	}
	return k
}

// String is the line under the table.
func (k *Katran) String() string {
	text := fmt.Sprintf("Katran is not run; assumed at %.2f of %s it would forward %.2f Mpps", k.Share, xdpEncapsulation.name, k.Mpps)
	for _, name := range contestantNames() {
		if ratio, ok := k.Ratios[name]; ok {
			text += fmt.Sprintf("; %s has %.2f times that", name, ratio)
		}
	}
	return text
}
