package main

import (
	"fmt"
	"slices"
	"strings"
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
	// Connections is the contest of TCP connections, if it was held.
	Connections *Connections `json:"connections,omitempty"`
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
	Targets     []Target `json:"targets,omitempty"`
	Katran      *Katran  `json:"katran,omitempty"`
}

// GeneratorMpps is how many frames a second, in millions, the generator can
// make at most.
func (c *CaseResult) GeneratorMpps() float64 {
	if c.GeneratorNS == 0 {
		return 0
	}
	return 1000 / c.GeneratorNS
}

// Result is one contestant in one case. Figures are medians over the rounds.
type Result struct {
	Name   string `json:"name"`
	What   string `json:"what"`
	NotRun string `json:"notRun,omitempty"` // why there are no figures
	// Failed are the errors of rounds that are not in the figures.
	Failed []string `json:"failed,omitempty"`

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
	failed              bool // there is nothing
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
	rounds      [][]round // by contestant and round
	failed      [][]string
	reasons     []map[string]uint64
}

// mostFailures is how many rounds a contestant may fail before it is left out.
const mostFailures = 2

// out reports whether a contestant takes no part any more.
func (a *collected) out(i int) bool { return a.notRun[i] != "" || len(a.failed[i]) >= mostFailures }

// fail notes that a contestant's round has failed. One without any other round
// is not run.
func (a *collected) fail(i int, err error) {
	a.failed[i] = append(a.failed[i], err.Error())
	a.rounds[i] = append(a.rounds[i], round{failed: true})
}

func newCollected(c Case, k *kit) *collected {
	n := len(k.contestants)
	a := &collected{
		c: c, kit: k, notRun: make([]string, n), rounds: make([][]round, n), failed: make([][]string, n), reasons: make([]map[string]uint64, n),
	}
	for i, who := range k.contestants {
		if !k.takesPart(c, who) {
			a.notRun[i] = leftOut
		} else if who.refuse != nil {
			a.notRun[i] = who.refuse(k, c)
		}
	}
	return a
}

// failAll notes that a round has failed for everybody who takes part.
func (a *collected) failAll(err error) {
	for i := range a.rounds {
		if !a.out(i) {
			a.fail(i, err)
		}
	}
}

// refuseAll says why nobody is run.
func (a *collected) refuseAll(err error) {
	for i := range a.notRun {
		if a.notRun[i] == "" {
			a.notRun[i] = err.Error()
		}
	}
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
	base := a.index(baseline)
	for i, who := range a.kit.contestants {
		if a.notRun[i] == leftOut {
			continue
		}
		one := Result{Name: who.name, What: who.what, NotRun: a.notRun[i], Failed: a.failed[i], Reasons: a.reasons[i]}
		rounds := kept(a.rounds[i])
		if one.NotRun == "" && len(rounds) == 0 {
			one.NotRun, one.Failed = strings.Join(slices.Compact(one.Failed), "; "), nil
		}
		if one.NotRun == "" {
			a.fill(&one, rounds)
			if base >= 0 {
				one.Ratio = a.ratio(i, base, func(r round) float64 { return r.mpps })
				if a.c.Rate == 0 {
					one.RatioNS = a.ratio(i, base, func(r round) float64 { return r.totalNS })
				}
			}
		}
		r.Results = append(r.Results, one)
	}
	r.Targets, r.Katran = a.targets(), a.katran()
	return r
}

// leftOut is why a contestant that the profile does not want in a case is not
// run: it is not in the case's results at all.
const leftOut = "left out"

// kept are the rounds that have figures.
func kept(rounds []round) []round {
	var some []round
	for _, r := range rounds {
		if !r.failed {
			some = append(some, r)
		}
	}
	return some
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
		one, other := a.rounds[i][n], a.rounds[base][n]
		if b := f(other); b > 0 && !one.failed && !other.failed {
			ratios = append(ratios, f(one)/b)
		}
	}
	return median(ratios)
}

// each is a figure of every round that has figures.
func each(rounds []round, f func(round) float64) []float64 {
	var values []float64
	for _, r := range kept(rounds) {
		values = append(values, f(r))
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
