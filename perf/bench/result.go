package main

import (
	"fmt"
	"slices"
	"time"
)

// Run is everything that one run has found.
type Run struct {
	Time    time.Time `json:"time"`
	Command string    `json:"command"`
	Profile string    `json:"profile"`
	Rounds  int       `json:"rounds"`
	Seconds float64   `json:"seconds"` // of one measurement
	Note    string    `json:"note,omitempty"`
	Machine Machine   `json:"machine"`
	// Foreign is the largest share of all CPUs that anything but the benchmark
	// used in any measurement that counts; a quiet machine has next to none.
	Foreign float64      `json:"foreign"`
	Cases   []CaseResult `json:"cases"`
}

// extent says how much was measured.
func (r *Run) extent() string {
	if r.Rounds == 1 {
		return fmt.Sprintf("1 round of %gs", r.Seconds)
	}
	return fmt.Sprintf("%d rounds of %gs, medians", r.Rounds, r.Seconds)
}

// disturbedFrom is the share of all CPUs used by others from which a run says
// nothing.
const disturbedFrom = 0.2

// disturbed reports that at least one measurement of the run is worthless.
func (r *Run) disturbed() bool { return r.Foreign >= disturbedFrom }

// CaseResult is one case with all contestants.
type CaseResult struct {
	Case
	// GeneratorNS is what making a frame costs, in ns of CPU: it is in no
	// contestant's figures.
	GeneratorNS float64  `json:"generatorNs"`
	Results     []Result `json:"results"`
}

// Result is one contestant in one case. Figures are medians over the rounds.
type Result struct {
	Name   string `json:"name"`
	What   string `json:"what"`
	NotRun string `json:"notRun,omitempty"` // why there are no figures

	Mpps    float64   `json:"mpps,omitempty"`    // forwarded frames a second, in millions
	Rounds  []float64 `json:"rounds,omitempty"`  // Mpps of each round
	Offered float64   `json:"offered,omitempty"` // frames sent a second, in millions
	Loss    float64   `json:"loss"`              // share of frames sent and not forwarded
	// InputNS is the CPU time, per frame sent, that the frame's way costs in the
	// source's process beside making it: the link, and for AF_XDP reception.
	// UserNS and SystemNS are those of the forwarder itself, and SoftirqNS those
	// of the kernel's softirq threads, per frame forwarded. TotalNS is the sum.
	InputNS   float64 `json:"inputNs,omitempty"`
	UserNS    float64 `json:"userNs,omitempty"`
	SystemNS  float64 `json:"systemNs,omitempty"`
	SoftirqNS float64 `json:"softirqNs,omitempty"`
	TotalNS   float64 `json:"totalNs,omitempty"`
	// Ratio is Mpps, and RatioNS TotalNS, against the baseline's in the same rounds.
	Ratio   float64 `json:"ratio,omitempty"`
	RatioNS float64 `json:"ratioNs,omitempty"`
	// Delays are from the source to the sink, when frames came at a fixed rate.
	Delays *Delays `json:"delaysUs,omitempty"`
	// GeneratorBound says that (nearly) everything that was sent was forwarded:
	// the forwarder could have done more.
	GeneratorBound bool `json:"generatorBound,omitempty"`
	// Foreign is the share of all CPUs that anything else on the machine used.
	Foreign float64 `json:"foreign"`
	// Reasons are Fairlead's own counts of frames by what became of them, in
	// the last round.
	Reasons map[string]uint64 `json:"reasons,omitempty"`
}

// Delays are percentiles in microseconds.
type Delays struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
}

// boundLoss is the loss below which the generator was the bottleneck.
const boundLoss = 0.01

// round is what is kept of a measurement.
type round struct {
	mpps, offered, loss float64
	inputNS, softirqNS  float64
	userNS, systemNS    float64
	totalNS, foreign    float64
	delays              Delays
}

// collected are the rounds of one case.
type collected struct {
	c           Case
	kit         *kit
	generatorNS []float64
	notRun      []string
	rounds      [][]round
	reasons     []map[string]uint64
}

func newCollected(c Case, k *kit) *collected {
	n := len(k.contestants)
	a := &collected{c: c, kit: k, notRun: make([]string, n), rounds: make([][]round, n), reasons: make([]map[string]uint64, n)}
	for i, who := range k.contestants {
		if who.refuse != nil {
			a.notRun[i] = who.refuse(k, c)
		}
	}
	return a
}

// add takes in a contestant's measurement; cost is the generator's in ns a frame.
func (a *collected) add(i int, cost float64, m *measurement) {
	received, sent := max(float64(m.received), 1), max(float64(m.sent), 1)
	r := round{
		mpps: m.mpps(), offered: m.offeredMpps(), loss: max(0, 1-float64(m.received)/sent),
		inputNS:   max(0, float64(m.generator.total)/sent-cost),
		userNS:    float64(m.own.user()) / received,
		systemNS:  float64(m.own.system()) / received,
		softirqNS: float64(m.softirqs.total) / received,
		foreign:   m.foreign,
	}
	r.totalNS = r.inputNS + r.userNS + r.systemNS + r.softirqNS
	if m.delays != nil {
		us := func(p float64) float64 { return float64(m.delays.percentile(p).Nanoseconds()) / 1000 }
		r.delays = Delays{P50: us(0.5), P90: us(0.9), P99: us(0.99), P999: us(0.999)}
	}
	a.rounds[i] = append(a.rounds[i], r)
	a.reasons[i] = m.dropped
	a.kit.foreign = max(a.kit.foreign, m.foreign)
}

func (a *collected) result() *CaseResult {
	r := &CaseResult{Case: a.c, GeneratorNS: median(a.generatorNS)}
	base := slices.IndexFunc(a.kit.contestants, func(c contestant) bool { return c.name == baseline })
	for i, who := range a.kit.contestants {
		one := Result{Name: who.name, What: who.what, NotRun: a.notRun[i], Reasons: a.reasons[i]}
		if one.NotRun == "" {
			a.fill(&one, a.rounds[i])
			if base >= 0 && a.notRun[base] == "" {
				one.Ratio = a.ratio(i, base, func(r round) float64 { return r.mpps })
				if a.c.Rate == 0 {
					one.RatioNS = a.ratio(i, base, func(r round) float64 { return r.totalNS })
				}
			}
		}
		r.Results = append(r.Results, one)
	}
	return r
}

func (a *collected) fill(one *Result, rounds []round) {
	of := func(f func(round) float64) float64 { return median(each(rounds, f)) }
	one.Rounds = each(rounds, func(r round) float64 { return r.mpps })
	one.Mpps = of(func(r round) float64 { return r.mpps })
	one.Offered = of(func(r round) float64 { return r.offered })
	one.Loss = of(func(r round) float64 { return r.loss })
	one.UserNS = of(func(r round) float64 { return r.userNS })
	one.SystemNS = of(func(r round) float64 { return r.systemNS })
	one.InputNS = of(func(r round) float64 { return r.inputNS })
	one.SoftirqNS = of(func(r round) float64 { return r.softirqNS })
	one.TotalNS = of(func(r round) float64 { return r.totalNS })
	one.Foreign = of(func(r round) float64 { return r.foreign })
	if a.c.Rate == 0 {
		one.GeneratorBound = one.Loss < boundLoss
		return
	}
	// Whoever makes the generator spin is not to be charged for it.
	one.InputNS, one.TotalNS = 0, 0
	one.Delays = &Delays{
		P50:  of(func(r round) float64 { return r.delays.P50 }),
		P90:  of(func(r round) float64 { return r.delays.P90 }),
		P99:  of(func(r round) float64 { return r.delays.P99 }),
		P999: of(func(r round) float64 { return r.delays.P999 }),
	}
}

// ratio is the median of the ratios within each round: what changes from round
// to round, changes for both.
func (a *collected) ratio(i, base int, f func(round) float64) float64 {
	var ratios []float64
	for n := range min(len(a.rounds[i]), len(a.rounds[base])) {
		if b := f(a.rounds[base][n]); b > 0 {
			ratios = append(ratios, f(a.rounds[i][n])/b)
		}
	}
	return median(ratios)
}

func each(rounds []round, f func(round) float64) []float64 {
	values := make([]float64, len(rounds))
	for i, r := range rounds {
		values[i] = f(r)
	}
	return values
}

// median of nothing is 0.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
