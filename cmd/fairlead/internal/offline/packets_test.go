package offline

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/configs"
	"fairlead/controlplane/compile"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/replay"
)

// The packet tests are tables in testdata/packets: what comes in, the verdict,
// and what goes out. README.md there says how to read and write them.
//
// With -update the verdicts and outputs are written anew. They are then what
// the code does, and not yet what is right: read every changed line.
var update = flag.Bool("update", false, "write verdicts and outputs of testdata/packets anew")

const packetsDir = "testdata/packets"

// unreachable are the reasons that no captured packet can meet, with the why.
var unreachable = map[reason.Reason]string{
	reason.PassFailAction:    "the XDP program's, when no worker lives",
	reason.StaleSteering:     "a replayed frame that is not ours is passed; on a network the XDP program has done that before",
	reason.TransmitRingFull:  "a replay has no rings that fill up",
	reason.TransmitDown:      "a replay has no link that goes down",
	reason.HeadroomExhausted: "the least headroom that a configuration may have holds the longest outer headers",
	reason.FamilyMismatch:    "validation refuses a service whose method cannot carry it to its backends",
	reason.RestartLost:       "a frame that a dead data process had",
	reason.FlowTableFull:     "takes a thousand established flows: TestFullFlowTable",
	reason.ForwardStateless:  "takes a thousand established flows: TestFullFlowTable",
}

// TestPackets runs every case of every table, and finds every reason among
// their verdicts.
func TestPackets(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(packetsDir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	seen := make(map[string]bool)
	for _, path := range files {
		table, err := readTable(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range table.cases {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txt")+"/"+c.name, func(t *testing.T) { c.run(t, table.toml) })
			for _, s := range c.steps {
				if s != nil {
					_, rest, _ := strings.Cut(s.verdict, " ")
					name, _, _ := strings.Cut(rest, " ")
					seen[name] = true
				}
			}
		}
		if *update && !t.Failed() {
			if err := os.WriteFile(path, table.text(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, r := range reason.All() {
		why, excused := unreachable[r]
		switch {
		case !excused && !seen[r.String()]:
			t.Errorf("no case has the verdict %v", r)
		case excused && seen[r.String()]:
			t.Errorf("a case has the verdict %v, which is said to be out of reach: %s", r, why)
		}
	}
}

// table is one file of cases.
type table struct {
	head  []string // lines before the first case
	toml  string   // the configuration of all cases
	cases []*packetCase
}

// packetCase is a conversation that begins with an empty flow table.
type packetCase struct {
	name  string
	lines []string // as they stand in the file, without verdicts and outputs
	steps []*step  // by line; nil where the line is no input
}

// step is one input with what the file says, or after a run what was found.
type step struct {
	verdict string
	out     []string
}

// readTable reads a file of cases.
func readTable(path string) (*table, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var toml strings.Builder
	tab := &table{}
	var c *packetCase
	for i, line := range strings.Split(strings.TrimSuffix(string(content), "\n"), "\n") {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case key == "case":
			c = &packetCase{name: value}
			tab.cases = append(tab.cases, c)
		case c == nil && key == "config":
			part, err := os.ReadFile(filepath.Join(packetsDir, value))
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
			}
			toml.Write(part)
		case c == nil && key == "toml":
			toml.WriteString(value + "\n")
		case c != nil && (key == "verdict" || key == "out"):
			last := len(c.steps) - 1
			if last < 0 || c.steps[last] == nil {
				return nil, fmt.Errorf("%s:%d: %s without an input before it", path, i+1, key)
			}
			if key == "verdict" {
				c.steps[last].verdict = value
			} else {
				c.steps[last].out = append(c.steps[last].out, value)
			}
			continue
		}
		if c == nil {
			tab.head = append(tab.head, line)
			continue
		}
		c.lines = append(c.lines, line)
		c.steps = append(c.steps, nil)
		if key == "in" {
			c.steps[len(c.steps)-1] = &step{}
		}
	}
	tab.toml = toml.String()
	return tab, nil
}

// text is the file again, with the verdicts and outputs the cases now have.
func (tab *table) text() []byte {
	var b bytes.Buffer
	for _, line := range tab.head {
		fmt.Fprintln(&b, line)
	}
	for _, c := range tab.cases {
		for i, line := range c.lines {
			fmt.Fprintln(&b, line)
			s := c.steps[i]
			if s == nil {
				continue
			}
			fmt.Fprintf(&b, "verdict: %s\n", s.verdict)
			for _, out := range s.out {
				fmt.Fprintf(&b, "out:     %s\n", out)
			}
		}
	}
	return b.Bytes()
}

// run carries the case through and compares, or with -update keeps what came
// of it.
func (c *packetCase) run(t *testing.T, toml string) {
	p, err := newPlayer(toml)
	if err != nil {
		t.Fatal(err)
	}
	var inputs []*step
	for i, line := range c.lines {
		found, err := p.play(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if found == nil {
			continue
		}
		want := c.steps[i]
		inputs = append(inputs, want)
		if *update {
			want.out = found
		} else if !slices.Equal(found, want.out) {
			t.Errorf("%s\n sent\n  %s\n want\n  %s", line, strings.Join(found, "\n  "), strings.Join(want.out, "\n  "))
		}
	}
	verdicts, err := p.end()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range inputs {
		if *update {
			want.verdict = verdicts[i]
		} else if verdicts[i] != want.verdict {
			t.Errorf("input %d: verdict %s, want %s", i+1, verdicts[i], want.verdict)
		}
	}
}

// player plays the steps of one case.
type player struct {
	cfg      *configs.Config
	ids      *compile.IDs
	down     []string // endpoints of dead backends
	replay   *replay.Replay
	snapshot *fib.Snapshot
	names    *names
	now      time.Time
	verdicts []string
}

func newPlayer(toml string) (*player, error) {
	p := &player{now: time.Unix(1_000_000_000, 0)}
	var err error
	if p.cfg, err = configs.Parse("packets.toml", []byte(toml)); err != nil {
		return nil, err
	}
	if err := p.compile(); err != nil {
		return nil, err
	}
	p.names = newNames(p.cfg)
	p.replay, err = replay.New(ReplayConfig(p.cfg, p.snapshot))
	return p, err
}

// compile makes the next snapshot.
func (p *player) compile() error {
	obs := Observations(p.cfg)
	state := p.cfg.State
	state.Pools = slices.Clone(state.Pools)
	for i := range state.Pools {
		pool := &state.Pools[i]
		pool.Backends = slices.Clone(pool.Backends)
		for j := range pool.Backends {
			b := &pool.Backends[j]
			b.Serving.Down = slices.ContainsFunc(p.down, func(end string) bool { return packettest.AddrPort(end) == b.Endpoint() })
		}
	}
	result, err := compile.Compile(&state, obs, p.ids, compile.Options{})
	if err != nil {
		return err
	}
	p.ids = result.IDs
	generation := uint64(Generation)
	if p.snapshot != nil {
		generation = p.snapshot.Generation() + 1
	}
	image, err := result.Builder.Encode(generation)
	if err != nil {
		return err
	}
	p.snapshot, err = fib.Open(image)
	return err
}

// play does what a line says. For an input it returns what was sent, which is
// not nil.
func (p *player) play(line string) ([]string, error) {
	key, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch key {
	case "case", "":
		return nil, nil
	case "after":
		d, err := time.ParseDuration(value)
		p.now = p.now.Add(d)
		return nil, err
	case "down":
		p.down = append(p.down, value)
		return nil, p.publish()
	case "up":
		p.down = slices.DeleteFunc(p.down, func(end string) bool { return end == value })
		return nil, p.publish()
	case "remove":
		return nil, p.remove(value)
	case "in":
		return p.input(value)
	}
	if strings.HasPrefix(line, "#") {
		return nil, nil
	}
	return nil, fmt.Errorf("unknown step %q", key)
}

func (p *player) publish() error {
	if err := p.compile(); err != nil {
		return err
	}
	return p.replay.Publish(p.snapshot)
}

// remove takes a service, or a backend written as pool/backend, out of the
// configuration.
func (p *player) remove(name string) error {
	pool, backend, isBackend := strings.Cut(name, "/")
	state, found := &p.cfg.State, false
	if !isBackend {
		for i := range state.Services {
			if state.Services[i].Name == name {
				state.Services, found = slices.Delete(state.Services, i, i+1), true
				break
			}
		}
	}
	for i := range state.Pools {
		for j := range state.Pools[i].Backends {
			if isBackend && state.Pools[i].Name == pool && state.Pools[i].Backends[j].Name == backend {
				state.Pools[i].Backends, found = slices.Delete(state.Pools[i].Backends, j, j+1), true
				break
			}
		}
	}
	if !found {
		return fmt.Errorf("there is no %s to remove", name)
	}
	return p.publish()
}

// input builds a frame and carries it through.
func (p *player) input(text string) ([]string, error) {
	frame, port, err := p.names.build(text)
	if err != nil {
		return nil, err
	}
	ended, sent, err := p.replay.Frame(replay.Frame{Data: frame, Time: p.now, Port: port})
	if err != nil {
		return nil, err
	}
	p.keep(ended)
	out := []string{}
	for _, s := range sent {
		out = append(out, p.names.describe(s.Data, s.Port))
	}
	return out, p.replay.Check()
}

func (p *player) keep(ended []replay.Ended) {
	for _, e := range ended {
		v := fmt.Sprintf("%v %v", e.Verdict.Action, e.Verdict.Reason)
		if e.Service != "" {
			v += " service=" + e.Service
		}
		if e.Backend != "" {
			v += " backend=" + e.Backend
		}
		p.verdicts = append(p.verdicts, v)
	}
}

// end returns the verdicts of all inputs.
func (p *player) end() ([]string, error) {
	ended, err := p.replay.End()
	p.keep(ended)
	return p.verdicts, err
}

// TestFullFlowTable shows what becomes of new flows when the table is full of
// established ones: direct reply does without an entry, nat cannot.
func TestFullFlowTable(t *testing.T) {
	common, err := os.ReadFile(filepath.Join(packetsDir, "common.toml"))
	if err != nil {
		t.Fatal(err)
	}
	const flows = 1024
	p, err := newPlayer(fmt.Sprintf("%s\n[dataplane]\nflow_table_size = %d\n", common, flows))
	if err != nil {
		t.Fatal(err)
	}
	for i := range flows {
		for _, flags := range []string{"syn", "ack"} {
			if _, err := p.play(fmt.Sprintf("in: tcp 203.0.113.9:%d > 198.18.0.10:81 %s", 1000+i, flags)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, step := range []string{
		"in: tcp 203.0.113.9:500 > 198.18.0.10:81 syn",
		"in: tcp 203.0.113.9:500 > 198.18.0.10:80 syn",
		"after: 125m", // tcp_established is 2h4m
		"in: tcp 203.0.113.9:500 > 198.18.0.10:80 syn",
	} {
		if _, err := p.play(step); err != nil {
			t.Fatal(err)
		}
	}
	verdicts, err := p.end()
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range verdicts[:2*flows] {
		if want := []string{"transmit forward_new service=4in4 backend=b1", "transmit forward_flow service=4in4 backend=b1"}[i%2]; v != want {
			t.Fatalf("packet %d: %s, want %s", i+1, v, want)
		}
	}
	want := []string{"transmit forward_stateless service=4in4 backend=b1", "drop flow_table_full service=nat backend=b1", "transmit forward_new service=nat backend=b1"}
	if !slices.Equal(verdicts[2*flows:], want) {
		t.Errorf("verdicts %q, want %q", verdicts[2*flows:], want)
	}
}
