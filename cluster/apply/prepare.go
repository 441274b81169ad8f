package apply

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"fairlead/cluster"
)

// maxID is how many bytes name a change.
const maxID = 64

// request asks a node whether it could put contents in force.
type request struct {
	Format   int                        `json:"format"`
	ID       string                     `json:"id"`
	User     string                     `json:"user,omitempty"`
	Within   time.Duration              `json:"within"`   // for which the node is reserved
	Contents map[string]Content         `json:"contents"` // by source
	Base     map[string]cluster.Version `json:"base"`     // of each source, that the change was made in knowledge of
}

// answer says what comes of it.
type answer struct {
	Refused  string   `json:"refused,omitempty"`  // why not
	Conflict bool     `json:"conflict,omitempty"` // it is for another change, and may be tried again
	Unknown  []string `json:"unknown,omitempty"`  // keys that the node's software does not know and would ignore
}

// prepared answers another node that asks whether a change could be put in force
// here.
func (a *Apply) prepared(ctx context.Context, from string, message []byte) ([]byte, error) {
	var q request
	if err := unpack(message, &q); err != nil {
		return nil, fmt.Errorf("the request is not understood: %w", err)
	}
	if len(q.ID) > maxID || q.Within < 0 || len(q.Contents) == 0 {
		return nil, errors.New("the request is not understood: it has no contents, or bounds that cannot be")
	}
	var out answer
	var err error
	if q.Format > formatNumber {
		err = fmt.Errorf("%w: format %d, this node reads up to %d", errNewer, q.Format, formatNumber)
	} else {
		out.Unknown, err = a.prepare(ctx, from, &q)
	}
	if conflict := (*ConflictError)(nil); errors.As(err, &conflict) {
		out.Conflict = true
	}
	if err != nil {
		out.Refused = err.Error()
		a.reserving.release(from, q.ID)
	}
	return json.Marshal(&out)
}

// prepare finds out whether a change could be put in force here, and keeps
// others out until it is released.
func (a *Apply) prepare(ctx context.Context, from string, q *request) (unknown []string, err error) {
	if err := a.reserving.take(ctx, q, from, a.now, a.serves, a.ended); err != nil {
		return nil, err
	}
	for source := range q.Contents {
		e, there := a.cfg.Store.Get(keyOf(source))
		if there && e.Version.Compare(q.Base[source]) > 0 {
			return nil, conflictWith(e)
		}
	}
	return a.cfg.Local.Try(q.Contents)
}

func conflictWith(e cluster.Entry) error {
	user := ""
	if d, err := decode(e.Value); err == nil {
		user = d.User
	}
	at := time.UnixMilli(e.Version.Wall).UTC().Format(time.RFC3339)
	return &ConflictError{fmt.Sprintf("%s has made another change on node %q meanwhile (%s); look at it and try again", person(user), e.Writer, at)}
}

// Missing is a node that could not be asked.
type Missing struct {
	Node string
	Why  string
}

// Report is what came of asking the others.
type Report struct {
	Asked   int       // nodes that have agreed, this one not counted
	Missing []Missing // nodes that take the change over when they are back
	// Unknown are keys that a node's software does not know and ignores, by node.
	Unknown map[string][]string
}

// Warnings are what an operator should know of it, a line each.
func (r *Report) Warnings() (lines []string) {
	if r == nil {
		return nil
	}
	for _, m := range r.Missing {
		lines = append(lines, fmt.Sprintf("node %q was not asked (%s); it takes the change over when it is back", m.Node, m.Why))
	}
	for _, node := range slices.Sorted(maps.Keys(r.Unknown)) {
		lines = append(lines, fmt.Sprintf("node %q does not know and ignores: %s", node, strings.Join(r.Unknown[node], "; ")))
	}
	return lines
}

// ask has all other nodes prepare a change. The first by name is asked first, and
// the others only when it agrees: of two changes at the same time, one is made.
func (a *Apply) ask(ctx context.Context, q *request) (*Report, error) {
	report := &Report{Unknown: map[string][]string{}}
	var reached []string
	for _, n := range a.others() {
		if n.State.Serves() {
			reached = append(reached, n.Name)
		} else {
			report.Missing = append(report.Missing, Missing{n.Name, string(n.State)})
		}
	}
	message, err := pack(q)
	if err != nil {
		return nil, err
	}
	if len(message) > cluster.MaxMessage {
		return nil, fmt.Errorf("the change has %d bytes when it is compressed; a message has at most %d", len(message), cluster.MaxMessage)
	}
	self := func(answers *answers) {
		unknown, err := a.prepare(ctx, a.self, q)
		answers.add(a.self, &answer{Unknown: unknown}, err)
	}
	first := a.self
	if len(reached) > 0 && reached[0] < a.self {
		first = reached[0]
	}
	all := &answers{}
	if first == a.self {
		self(all)
	} else {
		a.askOne(ctx, first, message, all)
	}
	if !all.refused() {
		var asking sync.WaitGroup
		for _, name := range reached {
			if name != first {
				asking.Go(func() { a.askOne(ctx, name, message, all) })
			}
		}
		if first != a.self {
			self(all)
		}
		asking.Wait()
	}
	if err := ctx.Err(); err != nil {
		return report, fmt.Errorf("the change was not made: %w", err)
	}
	return report, all.sum(a.self, report)
}

// askOne asks one node, for as long as it is there.
func (a *Apply) askOne(ctx context.Context, name string, message []byte, all *answers) {
	ctx, cancel := context.WithTimeout(ctx, prepareWithin)
	defer cancel()
	stop := a.cfg.Members.Watch(func(nodes []cluster.Node) {
		if !slices.ContainsFunc(nodes, func(n cluster.Node) bool { return n.Name == name && n.State.Serves() }) {
			cancel()
		}
	})
	defer stop()
	text, err := a.cfg.Peers.Call(ctx, name, topicPrepare, message)
	var out answer
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		all.miss(name, err)
		return
	}
	all.add(name, &out, nil)
}

// free ends the reservations of a change.
func (a *Apply) free(id string) {
	a.making.set("")
	a.reserving.release(a.self, id)
	for _, n := range a.others() {
		if n.State.Serves() {
			if err := a.cfg.Peers.Send(n.Name, topicRelease, []byte(id)); err != nil {
				a.log.Debug("a node is not told that a change is over; it finds out by itself", "node", n.Name, "error", err)
			}
		}
	}
}

// answers are collected from several goroutines.
type answers struct {
	mu       sync.Mutex
	asked    int
	missing  []Missing
	unknown  map[string][]string
	refusals []Refusal
	own      error
}

func (a *answers) add(node string, out *answer, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil { // of this node itself, which words it best
		a.own = err
		return
	}
	a.asked++
	if out.Refused != "" {
		a.refusals = append(a.refusals, Refusal{node, out.Refused, out.Conflict})
	}
	if len(out.Unknown) > 0 {
		if a.unknown == nil {
			a.unknown = map[string][]string{}
		}
		a.unknown[node] = out.Unknown
	}
}

func (a *answers) miss(node string, err error) {
	why := err.Error()
	switch {
	case errors.Is(err, cluster.ErrNoHandler):
		why = "its software cannot be asked"
	case errors.Is(err, cluster.ErrUnreachable):
		why = "no connection"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		why = "it does not answer"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.missing = append(a.missing, Missing{node, why})
}

func (a *answers) refused() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.own != nil || len(a.refusals) > 0
}

// sum adds what was answered to a report.
func (a *answers) sum(self string, r *Report) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r.Asked = a.asked - 1
	r.Missing = append(r.Missing, a.missing...)
	slices.SortFunc(r.Missing, func(x, y Missing) int { return cmp.Compare(x.Node, y.Node) })
	delete(a.unknown, self)
	maps.Copy(r.Unknown, a.unknown)
	if a.own != nil {
		return a.own
	}
	if len(a.refusals) > 0 {
		slices.SortFunc(a.refusals, func(x, y Refusal) int { return cmp.Compare(x.Node, y.Node) })
		return &RefusedError{a.refusals}
	}
	return nil
}
