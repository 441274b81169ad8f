package node

import (
	"context"
	"time"

	"fairlead/controlplane/api"
	"fairlead/dataplane/flow"
)

// mostWatched is how many flows a watch remembers.
const mostWatched = 1 << 18

// watched is a flow as a watch saw it last.
type watched struct {
	flow flow.Flow
	pass uint32
}

// flowWatch compares the flow table with what it was.
type flowWatch struct {
	filter *flowFilter
	look   *flowLook
	known  map[int]watched // by record
	pass   uint32
	events []api.FlowEvent
}

// WatchFlows implements api.FlowProvider.
func (n *Node) WatchFlows(ctx context.Context, q api.FlowWatchQuery, send func(api.FlowEvents) error) error {
	give, err := n.flowTable.take()
	if err != nil {
		return err
	}
	defer give()
	filter, err := n.flowFilter(&q.FlowFilter)
	if err != nil {
		return err
	}
	w := &flowWatch{filter: filter, look: n.flowLook(), known: make(map[int]watched)}
	for ctx.Err() == nil {
		begin := time.Now()
		if err := n.pass(ctx, w, send); err != nil {
			return err
		}
		timer := time.NewTimer(time.Until(begin.Add(time.Duration(q.Interval))))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return nil
}

// pass looks through the table once and tells what has changed.
func (n *Node) pass(ctx context.Context, w *flowWatch, send func(api.FlowEvents) error) error {
	w.pass++
	flush := func() error {
		if len(w.events) == 0 || w.pass == 1 {
			w.events = nil
			return nil
		}
		err := send(api.FlowEvents{Time: time.Now(), Events: w.events})
		w.events = nil
		return err
	}
	if err := n.scan(ctx, w.see, flush); err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	if w.pass == 1 {
		watching := len(w.known)
		return send(api.FlowEvents{Time: time.Now(), Watching: &watching})
	}
	if err := n.ended(w); err != nil {
		return err
	}
	return flush()
}

// see compares a record with what it was.
func (w *flowWatch) see(v *view, record int, now flow.Time, f *flow.Flow) error {
	old, known := w.known[record]
	if known && old.flow.Incarnation() != f.Incarnation() {
		w.tell("ended", "", w.look.flow(v, now, &old.flow))
		delete(w.known, record)
		known = false
	}
	switch {
	case !known && !w.filter.matches(v, now, f):
		return nil
	case !known && len(w.known) == mostWatched:
		return api.Errorf(api.TooMany, "more than %d flows are asked for, which is the most that can be watched: ask for fewer", mostWatched)
	case !known:
		w.tell("new", "", w.look.flow(v, now, f))
	case old.flow.State != f.State || old.flow.BackendID != f.BackendID:
		w.tell("changed", old.flow.State.String(), w.look.flow(v, now, f))
	}
	w.known[record] = watched{*f, w.pass}
	return nil
}

func (w *flowWatch) tell(event, was string, f api.Flow) {
	if event == "ended" {
		f.ExpiresMS = 0
	}
	w.events = append(w.events, api.FlowEvent{Event: event, Was: was, Flow: f})
}

// ended tells of the flows that the last pass did not see.
func (n *Node) ended(w *flowWatch) error {
	v := n.view()
	if v == nil {
		return api.Errorf(api.Unavailable, "the node stops")
	}
	defer v.close()
	n.flowTable.mu.RLock()
	defer n.flowTable.mu.RUnlock()
	if n.flowTable.reader == nil {
		return api.Errorf(api.Unavailable, "the node stops")
	}
	now := n.flowTable.clock()
	for record, one := range w.known {
		if one.pass == w.pass {
			continue
		}
		w.tell("ended", "", w.look.flow(v, now, &one.flow))
		delete(w.known, record)
	}
	return nil
}
