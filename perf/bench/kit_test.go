package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRun runs the whole kit with the smallest of rounds. What it finds is
// complete and in order; how fast anything is does not matter.
func TestRun(t *testing.T) {
	broken := contestant{name: "broken", what: "never starts", start: cannotStart}
	shaky := plainForwarder
	shaky.name, shaky.start = "shaky", everyOther(plainForwarder.start)
	refused := contestant{name: "refused", what: "never tries", refuse: func(*kit, Case) string { return "it is a test" }}
	who := []contestant{cForwarder, plainForwarder, fairleadBy("ipip"), xdpEncapsulation, broken, refused, shaky}
	k := newTestKit(t, who,
		Case{Arms: 2, Protocol: udp, Size: 60, Flows: 100},
		Case{Arms: 1, Protocol: tcp, Size: 60, Flows: endless},
		Case{Arms: 2, Protocol: udp, Size: 60, Flows: 10, Rate: 10_000},
		Case{Arms: 1, Protocol: udp, IPv6: true, Size: 62, Flows: 10},
	)
	r, err := k.record(t.Context(), "make bench", "a test", "")
	if err != nil {
		t.Fatal(err)
	}
	checkRun(t, k, r)
	checkOutputs(t, r)
}

// TestConnections holds the contest of TCP connections with the smallest of
// rounds: whoever can be run carries them, and breaks none.
func TestConnections(t *testing.T) {
	k := newTestKit(t, nil)
	k.profile.connections = true
	broken := proxy{name: "broken", what: "never starts", start: func(context.Context, *kit, *connWorld) (*forwarder, error) {
		return nil, errors.New("it is broken")
	}}
	k.proxies = append(proxies(), broken)
	r, err := k.record(t.Context(), "make bench", "a test", "")
	if err != nil {
		t.Fatal(err)
	}
	for i, one := range r.Connections.Results {
		who := k.proxies[i]
		switch {
		case one.Name != who.name || one.What != who.what:
			t.Fatalf("%s in the place of %s", one.Name, who.name)
		case who.name == "broken":
			if one.NotRun != "start: it is broken" {
				t.Errorf("broken: %q", one.NotRun)
			}
		case one.NotRun != "":
			if who.refuse == nil || who.refuse() != one.NotRun {
				t.Errorf("%s: not run: %s", one.Name, one.NotRun)
			}
		case len(one.Rounds) != k.rounds || one.PerSecond <= 0 || one.TotalUS <= 0 || one.Broken > 0 || len(one.Failed) > 0:
			t.Errorf("%+v", one)
		}
	}
	var table strings.Builder
	if err := writeTable(&table, r); err != nil {
		t.Fatal(err)
	}
	drawn := plot(r)
	for _, one := range r.Connections.Results {
		if !strings.Contains(drawn, one.Name) || !strings.Contains(table.String(), one.Name) {
			t.Errorf("%s is missing in the plot or the table", one.Name)
		}
	}
}

func cannotStart(context.Context, *kit, *world, Case) (*forwarder, error) {
	return nil, errors.New("it is broken")
}

// everyOther has a contestant start only every other time.
func everyOther(start func(context.Context, *kit, *world, Case) (*forwarder, error)) func(context.Context, *kit, *world, Case) (*forwarder, error) {
	times := 0
	return func(ctx context.Context, k *kit, w *world, c Case) (*forwarder, error) {
		if times++; times%2 == 1 {
			return nil, errors.New("not this time")
		}
		return start(ctx, k, w, c)
	}
}

func checkRun(t *testing.T, k *kit, r *Run) {
	t.Helper()
	if len(r.Cases) != len(k.cases) {
		t.Fatalf("%d cases, want %d", len(r.Cases), len(k.cases))
	}
	if m := r.Machine; m.Cores < 2 || m.CPU == "" || m.Kernel == "" || m.Go == "" || m.Placement == "" {
		t.Errorf("machine %+v", m)
	}
	for i, c := range r.Cases {
		if c.Case != k.cases[i] || c.GeneratorNS <= 0 {
			t.Errorf("case %v, generator %g ns", c.Case, c.GeneratorNS)
		}
		for j, one := range c.Results {
			checkResult(t, k, c.Case, k.contestants[j], &one)
		}
	}
}

func checkResult(t *testing.T, k *kit, c Case, who contestant, r *Result) {
	t.Helper()
	if r.Name != who.name || r.What != who.what {
		t.Fatalf("%s in the place of %s", r.Name, who.name)
	}
	switch {
	case who.name == "broken":
		if r.NotRun != "start: it is broken" {
			t.Errorf("broken: not run: %q", r.NotRun)
		}
		return
	case who.name == "refused":
		if r.NotRun != "it is a test" {
			t.Errorf("refused: not run: %q", r.NotRun)
		}
		return
	case r.NotRun != "":
		if who.refuse == nil || who.refuse(k, c) != r.NotRun {
			t.Errorf("%v: %s: not run: %s", c, r.Name, r.NotRun)
		}
		return
	}
	rounds := k.rounds
	if who.name == "shaky" {
		rounds /= 2
		if want := []string{"start: not this time"}; !slices.Equal(r.Failed, want) {
			t.Errorf("shaky: failed: %q, want %q", r.Failed, want)
		}
	}
	if len(r.Rounds) != rounds || r.Mpps != median(r.Rounds) || r.Mpps < 0 || r.Offered <= 0 || r.Loss < 0 || r.Loss > 1 || (r.Delays != nil) != (c.Rate > 0) {
		t.Errorf("%v: %+v", c, r)
	}
}

// checkOutputs writes the run in every form.
func checkOutputs(t *testing.T, r *Run) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "results")
	if err := r.save(name); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var again Run
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	// As text, since what is empty and what is missing read alike.
	wrote, err1 := json.MarshalIndent(r.Cases, "", "\t")
	reads, err2 := json.MarshalIndent(again.Cases, "", "\t")
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(wrote, reads) {
		t.Errorf("%v: the JSON reads\n%s\nwhat was written is\n%s", err, reads, wrote)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if host != "" && bytes.Contains(data, []byte(host)) {
		t.Errorf("the results name the host %q", host)
	}
	svg, err := os.ReadFile(name + ".svg")
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the plot: %v", err)
		}
	}
	var table strings.Builder
	if err := writeTable(&table, r); err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Cases {
		for _, one := range c.Results {
			if !bytes.Contains(svg, []byte(one.Name)) || !strings.Contains(table.String(), one.Name) {
				t.Errorf("%s is missing in the plot or the table", one.Name)
			}
		}
	}
	for _, want := range []string{"not run: broken: start: it is broken", "not run: refused: it is a test", "a round without shaky: start: not this time", "Note: a test"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{1, 8, 2, 4}, 3}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %g, want %g", c.values, got, c.want)
		}
	}
}

// TestRatio takes ratios within rounds: a round that is bad for both changes nothing.
func TestRatio(t *testing.T) {
	a := &collected{rounds: [][]round{{{mpps: 2}, {mpps: 0.2}, {mpps: 4}}, {{mpps: 1}, {mpps: 0.1}, {mpps: 2}}}}
	if got := a.ratio(1, 0, func(r round) float64 { return r.mpps }); got != 0.5 {
		t.Errorf("ratio %g, want 0.5", got)
	}
}

// TestDisturbed has a run that others disturbed say so, and no other.
func TestDisturbed(t *testing.T) {
	for _, c := range []struct {
		foreign float64
		want    bool
	}{{0, false}, {0.19, false}, {0.2, true}, {0.9, true}} {
		r := &Run{Foreign: c.foreign}
		var table strings.Builder
		if err := writeTable(&table, r); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(table.String(), "Disturbed: "); got != c.want {
			t.Errorf("others took %g: the table says disturbed: %t", c.foreign, got)
		}
		if got := strings.Contains(plot(r), "disturbed by other work"); got != c.want {
			t.Errorf("others took %g: the plot says disturbed: %t", c.foreign, got)
		}
	}
}

func TestPercentiles(t *testing.T) {
	var d delays
	if got := d.percentile(0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	d[10] = 98  // 10 ns
	d[16+5] = 1 // 21 ns
	d[479] = 1
	for _, c := range []struct {
		p    float64
		want int64
	}{{0.5, 10}, {0.98, 10}, {0.99, 21}, {1, 32<<28 - 1}} {
		if got := d.percentile(c.p); int64(got) != c.want {
			t.Errorf("percentile %g: %d ns, want %d", c.p, got, c.want)
		}
	}
}

func TestChosen(t *testing.T) {
	some, carriers, err := chosen([]string{"fairlead-l2", "c-libxdp"})
	if err != nil || len(some) != 2 || some[0].name != "c-libxdp" || some[1].name != "fairlead-l2" || len(carriers) != 0 {
		t.Errorf("chosen: %v, %v", some, err)
	}
	if _, _, err := chosen([]string{"ipvs"}); err == nil || err.Error() != `there is no contestant "ipvs"` {
		t.Errorf("an unknown contestant: %v", err)
	}
	if all, carriers, err := chosen(nil); err != nil || len(all) != len(contestants()) || len(carriers) != len(proxies()) {
		t.Errorf("all: %d, %v", len(all), err)
	}
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-only", "ipvs"}, `there is no contestant "ipvs"`},
		{[]string{"-case", "three-arm"}, `no case's name contains "three-arm"`},
		{[]string{"short"}, `"short" is no flag`},
		{[]string{"-profile", "nat"}, "-profile needs -out, the file to write"},
		{[]string{"-profile", "nat", "-out", "x", "-flows", "3000000"}, "3000000 flows: there can be 0 (endless) to 2000000"},
	} {
		if err := bench(t.Context(), c.args); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
	full, err := profileNamed("full")
	if err != nil {
		t.Fatal(err)
	}
	if got := matching(full.cases, "two-arm, tcp, 60"); len(got) != 2 || got[0].Arms != 2 || got[1].Protocol != tcp {
		t.Errorf("matching: %v", got)
	}
}

func TestPlacement(t *testing.T) {
	if _, err := placement(1); err == nil || err.Error() != "1 CPU: the generator and the forwarder need one each" {
		t.Errorf("one CPU: %v", err)
	}
	if c, err := placement(4); err != nil || c != (cpus{generator: 0, worker: 3}) {
		t.Errorf("four CPUs: %+v, %v", c, err)
	}
}

// TestProfiles asserts that the full profile has what is to be recorded.
func TestProfiles(t *testing.T) {
	full, err := profileNamed("full")
	if err != nil {
		t.Fatal(err)
	}
	if full.rounds < 5 {
		t.Errorf("%d rounds", full.rounds)
	}
	for _, arms := range []int{1, 2} {
		for _, flows := range []int{1, 10_000, 1_000_000} {
			if !slices.Contains(full.cases, Case{Arms: arms, Protocol: udp, Size: 60, Flows: flows}) {
				t.Errorf("%d arms, %d flows are missing", arms, flows)
			}
		}
		if !slices.Contains(full.cases, Case{Arms: arms, Protocol: tcp, Size: 60, Flows: endless}) {
			t.Errorf("%d arms, endless SYNs are missing", arms)
		}
		for _, size := range []int{512, 1450} {
			if !slices.Contains(full.cases, Case{Arms: arms, Protocol: udp, Size: size, Flows: 10_000}) {
				t.Errorf("%d arms, %d bytes are missing", arms, size)
			}
		}
	}
	for _, c := range []Case{
		{Arms: 2, Protocol: udp, IPv6: true, Size: 62, Flows: 1},
		{Arms: 2, Protocol: udp, IPv6: true, Size: 62, Flows: 10_000},
		{Arms: 2, Protocol: tcp, IPv6: true, Size: 74, Flows: 10_000},
		{Arms: 2, Protocol: tcp, Size: 60, Flows: 10_000},
	} {
		if !slices.Contains(full.cases, c) {
			t.Errorf("%v is missing", c)
		}
	}
	if _, err := profileNamed("long"); err == nil || err.Error() != `there is no profile "long": there are short and full` {
		t.Errorf("an unknown profile: %v", err)
	}
	if got := (Case{Arms: 1, Protocol: tcp, Size: 60, Flows: endless}).String(); got != "one-arm, tcp, 60 bytes, endless new SYNs" {
		t.Errorf("%q", got)
	}
	if got := (Case{Arms: 2, Protocol: udp, Size: 512, Flows: 1_000_000, Rate: 500_000}).String(); got != "two-arm, udp, 512 bytes, 1M flows, 500k frames/s" {
		t.Errorf("%q", got)
	}
	if got := (Case{Arms: 2, Protocol: udp, IPv6: true, Size: 62, Flows: 1}).String(); got != "two-arm, udp over IPv6, 62 bytes, 1 flow" {
		t.Errorf("%q", got)
	}
}
