package report

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/k8ssync/kube"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nodes are fellows whose reports a test sets.
type nodes struct {
	live    []string
	reports map[string][]byte
}

func (n nodes) Self() string               { return n.live[0] }
func (n nodes) Live() []string             { return n.live }
func (n nodes) Publish([]byte) error       { return nil }
func (n nodes) Reports() map[string][]byte { return n.reports }
func (n nodes) Watch(func()) func()        { return func() {} }

func TestReportSurvivesTheWay(t *testing.T) {
	r := Report{Connected: true, Synced: true, Since: time.Unix(1_800_000_000, 0).UTC(), Services: "123", Gateways: "99", Groups: 7, Refused: map[string]string{"k8s/service/a/b": "no room"}}
	got, err := Decode(r.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Encode()) != string(r.Encode()) || got.Services != "123" || got.Refused["k8s/service/a/b"] != "no room" || !got.Since.Equal(r.Since) {
		t.Errorf("%+v became %+v", r, got)
	}
}

func TestReportIsBounded(t *testing.T) {
	r := Report{Error: strings.Repeat("ä", 500), Refused: map[string]string{}}
	for i := range 100 {
		r.Refused[fmt.Sprintf("g%03d", i)] = strings.Repeat("x", 1000)
	}
	got, err := Decode(r.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Refused) != MaxRefused || got.MoreRefused != 100-MaxRefused || len(got.Refused["g000"]) != MaxReason || len(got.Error) > MaxReason {
		t.Errorf("%d refused, %d more, a reason of %d bytes, an error of %d", len(got.Refused), got.MoreRefused, len(got.Refused["g000"]), len(got.Error))
	}
	if len(r.Refused) != 100 {
		t.Error("encoding changed the report")
	}
}

func TestBadReports(t *testing.T) {
	for in, want := range map[string]string{
		"{":                        "report of a node: unexpected end of JSON input",
		`{"services":"0"}`:         "report of a node: resource version is not well formed: 0",
		`{"gateways":"12a"}`:       "report of a node: resource version is not well formed: 12a",
		strings.Repeat(" ", 1<<17): "report of a node: 131072 bytes, at most 65536 are possible",
	} {
		if _, err := Decode([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%.30q: %v, expected %s", in, err, want)
		}
	}
}

func TestReached(t *testing.T) {
	for _, c := range []struct {
		through, version string
		want             bool
	}{
		{"", "1", false}, {"1", "", false}, {"9", "10", false}, {"10", "9", true}, {"10", "10", true}, {"x", "1", false},
	} {
		if got := Reached(c.through, c.version); got != c.want {
			t.Errorf("Reached(%q, %q) = %t", c.through, c.version, got)
		}
	}
	if Later("", "5") != "5" || Later("5", "") != "5" || Later("9", "10") != "10" || Later("10", "9") != "10" {
		t.Error("Later is not the later")
	}
}

func TestProgrammed(t *testing.T) {
	key := kube.Key{Kind: kube.Service, Namespace: "default", Name: "web"}
	say := func(r Report) []byte { return r.Encode() }
	there := Report{Connected: true, Synced: true, Services: "200"}
	for name, c := range map[string]struct {
		fellows nodes
		want    string
		all     bool
		settled bool
	}{
		"everywhere": {nodes{[]string{"lb1", "lb2"}, map[string][]byte{"lb1": say(there), "lb2": say(there)}},
			"Programmed on 2 of 2 nodes", true, true},
		"alone": {nodes{[]string{"lb1"}, map[string][]byte{"lb1": say(there)}},
			"Programmed on 1 of 1 node", true, true},
		"one is behind": {nodes{[]string{"lb1", "lb2"}, map[string][]byte{"lb1": say(there), "lb2": say(Report{Connected: true, Synced: true, Services: "99"})}},
			"Programmed on 1 of 2 nodes: lb2 has not put it in force yet", false, false},
		"one is cut off": {nodes{[]string{"lb1", "lb2"}, map[string][]byte{"lb1": say(there), "lb2": say(Report{Synced: true, Services: "99", Error: "connection refused"})}},
			"Programmed on 1 of 2 nodes: lb2 has no connection to the API server (connection refused)", false, true},
		"one was cut off after it": {nodes{[]string{"lb1"}, map[string][]byte{"lb1": say(Report{Synced: true, Services: "200"})}},
			"Programmed on 1 of 1 node", true, true},
		"one refuses": {nodes{[]string{"lb1", "lb2"}, map[string][]byte{"lb1": say(there), "lb2": say(Report{Connected: true, Synced: true, Services: "200", Refused: map[string]string{key.Group(): "the VIP is the file's"}})}},
			"Programmed on 1 of 2 nodes: lb2 cannot put it in force (the VIP is the file's)", false, true},
		"one has not seen everything yet": {nodes{[]string{"lb1"}, map[string][]byte{"lb1": say(Report{Connected: true, Services: "200"})}},
			"Programmed on 0 of 1 node: lb1 has not put it in force yet", false, false},
		"some say nothing": {nodes{[]string{"a", "b", "c", "d", "e", "f", "g"}, nil},
			"Programmed on 0 of 7 nodes: a takes no part in Kubernetes; b takes no part in Kubernetes; c takes no part in Kubernetes; d takes no part in Kubernetes; e takes no part in Kubernetes; and 2 more", false, true},
		"one speaks nonsense": {nodes{[]string{"lb1"}, map[string][]byte{"lb1": []byte("x")}},
			"Programmed on 0 of 1 node: lb1 takes no part in Kubernetes", false, true},
	} {
		s := Of(c.fellows)
		p := s.Programmed(key, "150")
		if p.String() != c.want || p.All() != c.all || p.Settled() != c.settled {
			t.Errorf("%s: %q, all %t, settled %t", name, p.String(), p.All(), p.Settled())
		}
	}
}

func TestRefusedGroupsOfOneObjectBelongToIt(t *testing.T) {
	key := kube.Key{Kind: kube.Gateway, Namespace: "default", Name: "edge"}
	r := Report{Refused: map[string]string{"k8s/gateway/default/edge/tcp": "full", "k8s/gateway/default/edge2": "other"}}
	if reason, is := refusedReason(&r, key); !is || reason != "full" {
		t.Errorf("%q, %t", reason, is)
	}
	key.Name = "edg"
	if reason, is := refusedReason(&r, key); is {
		t.Errorf("another object's refusal counts: %q", reason)
	}
}

func TestWithdrawn(t *testing.T) {
	f := nodes{[]string{"a", "b", "c", "d"}, map[string][]byte{
		"a": Report{Connected: true, Synced: true, Services: "10"}.Encode(),
		"b": Report{Connected: true, Synced: true, Services: "9"}.Encode(),
		"c": Report{Synced: true, Services: "8", Error: "timeout"}.Encode(),
	}}
	s := Of(f)
	done, others := s.Withdrawn(kube.Service, "10")
	if done || len(others) != 2 || others[0].String() != "b has not put it in force yet" || others[1].String() != "c has no connection to the API server (timeout)" {
		t.Errorf("%t, %v", done, others)
	}
	if done, others := s.Withdrawn(kube.Service, "8"); !done {
		t.Errorf("still waits for %v", others)
	}
}

// The first of some names stays the first when others come and go, and every name
// is the first of something.
func TestFirst(t *testing.T) {
	names := []string{"lb1", "lb2", "lb3", "lb4"}
	seen := map[string]int{}
	for i := range 200 {
		what := fmt.Sprint("lease", i)
		first := First(what, names)
		seen[first]++
		backward := slices.Clone(names)
		slices.Reverse(backward)
		if First(what, backward) != first {
			t.Fatal("the order of names matters")
		}
		for _, gone := range names {
			rest := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == gone })
			if gone != first && First(what, rest) != first {
				t.Fatalf("%s went and %s is not the first any more", gone, first)
			}
		}
	}
	if len(seen) != len(names) || First("x", nil) != "" {
		t.Errorf("firsts: %v", seen)
	}
}

func TestCandidateIsConnected(t *testing.T) {
	f := nodes{[]string{"a", "b"}, map[string][]byte{
		"a": Report{Connected: true}.Encode(), // it has not seen everything yet
		"b": Report{Connected: true, Synced: true}.Encode(),
	}}
	if got := Candidate(f, "fairlead"); got != "b" {
		t.Errorf("candidate %q", got)
	}
}

func TestAlone(t *testing.T) {
	a := NewAlone("lb1")
	var mu sync.Mutex
	calls := 0
	stop := a.Watch(func() { mu.Lock(); calls++; mu.Unlock() })
	if a.Self() != "lb1" || !slices.Equal(a.Live(), []string{"lb1"}) || len(a.Reports()) != 0 {
		t.Error("it is not itself")
	}
	for range 2 {
		if err := a.Publish([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := a.Publish([]byte("y")); err != nil {
		t.Fatal(err)
	}
	if string(a.Reports()["lb1"]) != "y" || calls != 2 {
		t.Errorf("%q after %d calls", a.Reports()["lb1"], calls)
	}
}

// slow counts what is published, and fails the first time.
type slow struct {
	*Alone
	mu    sync.Mutex
	times []time.Time
}

func (s *slow) Publish(b []byte) error {
	s.mu.Lock()
	s.times = append(s.times, time.Now())
	first := len(s.times) == 1
	s.mu.Unlock()
	if first {
		return errors.New("not now")
	}
	return s.Alone.Publish(b)
}

func TestPublisherTellsTheLatest(t *testing.T) {
	f := &slow{Alone: NewAlone("lb1")}
	p := NewPublisher(f, slog.New(slog.DiscardHandler))
	for i := range 1000 {
		p.Set(Report{Groups: i})
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		if r, err := Decode(f.Reports()["lb1"]); err == nil && r.Groups == 999 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the latest report is not told")
		}
		time.Sleep(5 * time.Millisecond)
	}
	p.Set(Report{Groups: 1000})
	p.Close()
	if r, err := Decode(f.Reports()["lb1"]); err != nil || r.Groups != 1000 {
		t.Errorf("told %+v, %v before the end", r, err)
	}
	if len(f.times) > 10 {
		t.Errorf("1,000 changes were told in %d reports", len(f.times))
	}
}
