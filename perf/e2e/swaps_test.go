package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
)

// swapsOf is how many configurations TestConfigSwaps gives to the node, unless
// FAIRLEAD_SWAPS says otherwise. With FAIRLEAD_SWAPS_BULK=off no bytes are
// transferred meanwhile, so that the cables lose nothing.
const swapsOf = 500

// TestConfigSwaps gives the node many configurations one after the other, every
// tenth of them wrong, by its file and by the admin API, while connections are
// open, bytes flow and questions are asked. None breaks, no question is lost, no
// flow moves, and the node is the same at the end as at the beginning. What is in
// force is what a compilation of the same from nothing makes.
func TestConfigSwaps(t *testing.T) {
	t.Parallel()
	swaps := swapsOf
	if n, err := strconv.Atoi(os.Getenv("FAIRLEAD_SWAPS")); err == nil && n >= 100 {
		swaps = n
	}
	w := newWorld(t, worldConfig{lab: lab.Config{Backends: 4}, limit: 2*time.Minute + time.Duration(swaps)*150*time.Millisecond})
	inFile := []*site{w.addSite(nat4), w.addSite(ipip4), w.addSite(nat6)}
	inBoth := append(inFile, w.addSite(gue6)) // the last is sent
	w.serve()
	w.sites = inFile
	w.start()
	s := &swapper{w: w, r: rand.New(rand.NewPCG(1, 1)), all: members(w.topo.Backends...), inFile: inFile, sent: inBoth[3], file: w.text(), version: 1}
	for range 2 { // so that no rollback takes all of it back
		s.fileBefore, s.documentBefore = s.file, s.document
		s.send()
	}
	s.sends = 0
	w.sites = inBoth
	p := w.ping(25, inBoth...)
	over := make(chan struct{})
	asked := s.ask(over, inBoth)
	const every = 100 // swaps for each transfer that begins
	transfers := make(chan error, swaps/every)
	bulk := os.Getenv("FAIRLEAD_SWAPS_BULK") != "off"

	before := w.footprint()
	begin := time.Now()
	for n := range swaps {
		if n%every == 0 && n/every < swaps/every {
			done := make(chan struct{})
			close(done)
			go func() {
				var err error
				if bulk {
					err = w.transferUntil(inBoth[n/every%len(inBoth)], done)
				}
				transfers <- err
			}()
		}
		s.swap(n)
		if n%50 == 49 {
			w.asCompiled(s.settled(), s.file, s.document)
		}
	}
	t.Logf("%d configurations in %v: %d by the file and a signal, %d by the file and the API, %d sent, %d rolled back, %d refused",
		swaps, time.Since(begin).Round(time.Millisecond), s.signals, s.reloads, s.sends, s.rollbacks, s.refused)
	for range swaps / every {
		if err := <-transfers; err != nil {
			t.Error(err)
		}
	}
	close(over)
	q := questions{}
	for range inBoth {
		q.add(<-asked)
	}
	// Cables whose rings the transfers fill lose frames before the node sees
	// them; nothing else may.
	drops := w.linkDrops()
	t.Logf("%d questions were answered, %d of them asked again; the cables lost %d frames", q.answers, q.retries, drops)
	if q.err != nil || q.moves > 0 || uint64(q.retries) > drops {
		t.Errorf("questions: %v, %d were asked again while the cables lost %d frames, %d answers came from another server than the one before",
			q.err, q.retries, drops, q.moves)
	}
	p.await(1)
	p.stop()

	status := w.balance()
	end := time.Now()
	if s.refused != swaps/10 || s.signals+s.reloads+s.sends+s.rollbacks != swaps-swaps/10 {
		t.Errorf("%+v", s)
	}
	if status.Desired.Version != s.version || len(status.Desired.Conditions) > 2 {
		t.Errorf("version %d is in force, want %d; %+v", status.Desired.Version, s.version, status.Desired)
	}
	if n := lost(status); n != 0 {
		t.Errorf("sockets lost %d frames", n)
	}
	if status.Data.Restarts != 0 {
		t.Errorf("the data process was replaced %d times", status.Data.Restarts)
	}
	// A connection of the admin API may be open for a moment longer.
	for after := w.footprint(); after != before; after = w.footprint() {
		if w.ctx.Err() != nil || time.Since(end) > 5*time.Second {
			t.Errorf("the two processes have changed: %+v before, %+v after", before, after)
			break
		}
	}
	for _, s := range inBoth {
		w.http(s, 60)
	}
	w.balance()
	w.must(w.node.Stop())
}

// swapper changes a node's configuration at random.
type swapper struct {
	w      *world
	r      *rand.Rand
	all    []member
	inFile []*site
	sent   *site

	file, document                              string // in force
	fileBefore, documentBefore                  string // in the version before
	version                                     uint64
	signals, reloads, sends, rollbacks, refused int
}

// questions is what came of questions that were asked for some time.
type questions struct {
	answers, retries, moves int
	err                     error
}

func (q *questions) add(o questions) {
	q.answers, q.retries, q.moves, q.err = q.answers+o.answers, q.retries+o.retries, q.moves+o.moves, errors.Join(q.err, o.err)
}

// linkDrops is how many frames the cables of the lab have lost, at both ends.
func (w *world) linkDrops() (sum uint64) {
	w.t.Helper()
	for _, h := range w.topo.Hosts() {
		links, err := h.Netlink().LinkList()
		w.must(err)
		for _, l := range links {
			if s := l.Attrs().Statistics; s != nil {
				sum += s.RxDropped + s.TxDropped
			}
		}
	}
	return sum
}

// ask has questions asked through each site until over is closed: one flow
// after the other, while pools change.
func (s *swapper) ask(over <-chan struct{}, sites []*site) <-chan questions {
	asked := make(chan questions, len(sites))
	for _, site := range sites {
		go func() {
			var q questions
			for {
				tally := traffic.UDPLoad{Target: site.at(namePort), Flows: 1, Parallel: 1, PerFlow: 500, Timeout: 5 * time.Second}.Run(s.w.ctx, s.w.topo.Client.Host)
				q.add(questions{tally.Answers, tally.Retries, tally.Moves, tally.Err()})
				select {
				case <-over:
					asked <- q
					return
				default:
				}
				if q.err != nil || q.moves > 0 {
					asked <- q
					return
				}
			}
		}()
	}
	return asked
}

// swap makes change number n.
func (s *swapper) swap(n int) {
	s.w.t.Helper()
	if n%10 == 9 {
		s.refuse(n)
		return
	}
	switch s.r.IntN(10) {
	case 0, 1, 2:
		s.rewrite(n)
		s.w.must(s.w.node.Reload(s.w.ctx, s.file))
		s.version++
		s.signals++
	case 3, 4, 5:
		s.rewrite(n)
		s.w.must(os.WriteFile(s.w.node.Config, []byte(s.file+s.state()), 0o644))
		s.took("/v1/config/reload")
		s.reloads++
	case 6, 7, 8:
		s.fileBefore, s.documentBefore = s.file, s.document
		s.send()
	default:
		s.file, s.fileBefore = s.fileBefore, s.file
		s.document, s.documentBefore = s.documentBefore, s.document
		s.took("/v1/config/rollback")
		s.rollbacks++
	}
}

// state is the [state] table that the rig gives to every file.
func (s *swapper) state() string {
	have, err := os.ReadFile(s.w.node.Config)
	s.w.must(err)
	at := strings.LastIndex(string(have), "\n[state]")
	return string(have[at:])
}

// rewrite makes another file; no two are the same.
func (s *swapper) rewrite(n int) {
	s.fileBefore, s.documentBefore = s.file, s.document
	for _, site := range s.inFile {
		site.members = shuffled(s.r, s.all)
	}
	s.inFile[0].options = fmt.Sprintf("drain_timeout = \"%ds\"", 3600+n)
	s.file = s.w.nodeFile(s.inFile...)
}

// send sends another document.
func (s *swapper) send() {
	s.w.t.Helper()
	s.sent.members = shuffled(s.r, s.all)
	s.sent.options = fmt.Sprintf("drain_timeout = \"%ds\"", 3600+s.version)
	s.document = s.w.objects(s.sent)
	result, err := s.w.apply(s.document, nil)
	s.w.must(err)
	s.sends++
	s.version++
	s.check(result)
}

// took asks for a change that must be made.
func (s *swapper) took(path string) {
	s.w.t.Helper()
	var result api.ConfigResult
	s.w.must(s.w.node.Client().Call(s.w.ctx, http.MethodPost, path, nil, nil, &result))
	s.version++
	s.check(&result)
}

func (s *swapper) check(result *api.ConfigResult) {
	s.w.t.Helper()
	if !result.Changed || result.Version.Number != s.version {
		s.w.t.Fatalf("version %d is in force, want %d: %+v", result.Version.Number, s.version, result)
	}
}

// settled is the status when every worker decides by the present version.
func (s *swapper) settled() (status *api.Status) {
	s.w.t.Helper()
	s.w.must(s.w.node.Until(s.w.ctx, func(now *api.Status) bool {
		status = now
		return now.Generation.Acknowledged >= now.Generation.Published && now.Desired.Version == s.version
	}))
	return status
}

// refuse gives the node a file or a document with one of several mistakes: in
// the syntax, in a value, and in what only the whole shows.
func (s *swapper) refuse(n int) {
	s.w.t.Helper()
	s.refused++
	before := s.settled()
	if s.r.IntN(2) == 0 {
		kept, err := os.ReadFile(s.w.node.Config)
		s.w.must(err)
		why, err := s.w.node.Refuse(s.w.ctx, wrong(n, s.file))
		s.w.must(err)
		if !strings.Contains(why, "level=ERROR") {
			s.w.t.Fatalf("swap %d: a wrong configuration is no error: %s", n, why)
		}
		s.w.must(os.WriteFile(s.w.node.Config, kept, 0o644))
	} else {
		_, err := s.w.apply(wrong(n, s.document), url.Values{"name": {"wrong.toml"}})
		if answer := (*api.Error)(nil); !errors.As(err, &answer) || answer.Code != api.Invalid || len(answer.Details) == 0 || answer.Details[0].Line == 0 {
			s.w.t.Fatalf("swap %d: a wrong document is answered %v", n, err)
		}
	}
	if now := s.settled(); now.Generation.Published != before.Generation.Published {
		s.w.t.Fatalf("swap %d: what was refused is generation %d; before it was %d", n, now.Generation.Published, before.Generation.Published)
	}
}

// wrong is a configuration with a mistake.
func wrong(n int, right string) string {
	switch n / 10 % 3 {
	case 0:
		return right + "\n[[pool]]\nname = "
	case 1:
		return right + "\n[[pool]]\nname = \"x\"\n[[pool.backend]]\naddress = \"198.18.10.99\"\nwieght = 1\n"
	}
	return right + "\n[[service]]\nname = \"x\"\nvip = \"198.18.100.250\"\nprotocol = \"tcp\"\nport = 1\npool = \"nowhere\"\n"
}
