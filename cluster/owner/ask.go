package owner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"fairlead/cluster"
)

// Topics of the requests between nodes.
const (
	topicReturned cluster.Topic = "owner/returned" // you were taken for dead here: how are you?
	topicLeave    cluster.Topic = "owner/leave"    // count me out, and answer when you have
	topicVIPs     cluster.Topic = "owner/vips"     // which VIPs does your configuration have?
)

const (
	askEvery  = 500 * time.Millisecond
	askFor    = 5 * time.Second
	differFor = 2 * time.Second // configurations differ for a moment while they change
	mostVIPs  = 1 << 17
)

// wasAway is what a node tells another that it has taken for dead.
type wasAway struct {
	Started time.Time `json:"started"` // of the process that was taken for dead
}

// willSay is the answer: what the node says in this round is how it is now.
type willSay struct {
	Round uint64 `json:"round"`
}

// vipList is the answer to topicVIPs.
type vipList struct {
	Digest string       `json:"digest"`
	VIPs   []netip.Addr `json:"vips"`
}

// canonical is a list of VIPs in order, and its digest.
func canonical(vips []netip.Addr) (list []netip.Addr, digest string) {
	list = make([]netip.Addr, 0, len(vips))
	for _, v := range vips {
		list = append(list, v.Unmap())
	}
	slices.SortFunc(list, netip.Addr.Compare)
	list = slices.Compact(list)
	h := sha256.New()
	for _, v := range list {
		raw := v.As16()
		h.Write(raw[:])
	}
	return list, hex.EncodeToString(h.Sum(nil)[:8])
}

// inquire asks those others how they are, or what they have, of whom that is not
// known. The lock is held.
func (r *Room) inquire(now time.Time) {
	if r.closed {
		return
	}
	for name, o := range r.others {
		if !o.state.Serves() || o.asking || now.Sub(o.asked) < askEvery {
			continue
		}
		switch {
		case o.returned:
			o.asking, o.asked = true, now
			started := o.started
			r.running.Go(func() { r.askReturned(name, started) })
		case !o.differs.IsZero() && now.Sub(o.differs) >= differFor && o.listed != o.said.VIPs:
			o.asking, o.asked = true, now
			r.running.Go(func() { r.askVIPs(name) })
		}
	}
}

// call asks another node, for a while.
func (r *Room) call(name string, topic cluster.Topic, request any) ([]byte, error) {
	b, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.ctx, askFor)
	defer cancel()
	return r.cfg.Peers.Call(ctx, name, topic, b)
}

func (r *Room) askReturned(name string, started time.Time) {
	b, err := r.call(name, topicReturned, wasAway{started})
	var answer willSay
	if err == nil {
		err = json.Unmarshal(b, &answer)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.others[name]
	o.asking = false
	switch {
	case errors.Is(err, cluster.ErrNoHandler):
		o.returned = false // it does not say more than it has
	case err != nil:
		r.log.Debug("a node that has come back was not asked how it is; it is tried again", "node", name, "error", err)
	default:
		o.round = answer.Round
		r.welcome(o)
	}
}

// onReturned is told that this node was taken for dead: it says anew how it is, and
// yields if those who took it so are the greater part. The answer comes when
// everybody has come back who does, as far as that can be known: until then, who is
// the greater part is not known either.
func (r *Room) onReturned(ctx context.Context, from string, request []byte) ([]byte, error) {
	var w wasAway
	if err := json.Unmarshal(request, &w); err != nil {
		return nil, fmt.Errorf("%s: %w", topicReturned, err)
	}
	if w.Started.Equal(r.cfg.Members.Self().Started) {
		r.cameBack(from)
		if err := r.gathered(ctx); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.round++
	r.renew = true // they have answered for its VIPs
	r.poke()
	return json.Marshal(willSay{r.round})
}

// cameBack notes that this node and another were parted, as the other says.
func (r *Room) cameBack(name string) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.others[name]
	if o == nil {
		o = &other{}
		r.others[name] = o
	}
	if o.back.IsZero() || now.Sub(o.back) >= r.window() {
		o.back, r.back = now, now
		r.yield(now)
	}
}

// gathered returns when for a while nobody has come back.
func (r *Room) gathered(ctx context.Context) error {
	for {
		r.mu.Lock()
		wait := r.gather - time.Since(r.back)
		r.mu.Unlock()
		if wait <= 0 {
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
}

func (r *Room) askVIPs(name string) {
	b, err := r.call(name, topicVIPs, struct{}{})
	var answer vipList
	if err == nil {
		err = json.Unmarshal(b, &answer)
	}
	if err == nil && len(answer.VIPs) > mostVIPs {
		err = fmt.Errorf("%d VIPs: at most %d are possible", len(answer.VIPs), mostVIPs)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.others[name]
	o.asking = false
	if err != nil {
		r.log.Debug("it is not known which VIPs a node has; it is tried again", "node", name, "error", err)
		return
	}
	list, digest := canonical(answer.VIPs)
	o.list = make(map[netip.Addr]bool, len(list))
	for _, v := range list {
		o.list[v] = true
	}
	o.listed, o.lacking = digest, nil
	r.poke()
}

func (r *Room) onVIPs(context.Context, string, []byte) ([]byte, error) {
	r.mu.Lock()
	answer := vipList{r.digest, slices.Clone(r.vips)}
	r.mu.Unlock()
	return json.Marshal(answer)
}

// lacks are those of vips that the other's configuration does not have, as far as
// that is known. The lock of the room is held.
func (o *other) lacks(vips []netip.Addr, digest string) map[netip.Addr]bool {
	if o.said.VIPs == digest || o.said.VIPs == "" {
		o.differs, o.list, o.listed, o.lacking = time.Time{}, nil, "", nil
		return nil
	}
	if o.differs.IsZero() {
		o.differs = time.Now()
	}
	if o.listed != o.said.VIPs {
		return nil
	}
	if now := [2]string{o.listed, digest}; o.lacking == nil || o.lackOf != now {
		o.lacking, o.lackOf = make(map[netip.Addr]bool), now
		for _, v := range vips {
			if !o.list[v] {
				o.lacking[v] = true
			}
		}
	}
	return o.lacking
}

// Leave counts this node out: it answers for no VIP any more, and returns when
// all others have taken over what was its own, or when ctx ends. The error names
// those that have not.
func (r *Room) Leave(ctx context.Context) error {
	r.mu.Lock()
	r.leaving = true
	var names []string
	for name, o := range r.others {
		if o.state.Serves() {
			names = append(names, name)
		}
	}
	r.mu.Unlock()
	r.decide()
	slices.Sort(names)
	answers := make(chan error, len(names))
	for _, name := range names {
		go func() {
			_, err := r.cfg.Peers.Call(ctx, name, topicLeave, nil)
			if err != nil {
				err = fmt.Errorf("node %s: %w", name, err)
			}
			answers <- err
		}()
	}
	var errs []error
	for range names {
		errs = append(errs, <-answers)
	}
	return errors.Join(errs...)
}

// onLeave counts another node out and answers when its VIPs have been taken over.
func (r *Room) onLeave(_ context.Context, from string, _ []byte) ([]byte, error) {
	r.mu.Lock()
	if o := r.others[from]; o != nil {
		o.left = true
	}
	r.mu.Unlock()
	r.decide()
	return nil, nil
}

// names is a list of nodes for an error.
func names(list []cluster.Node) string {
	all := make([]string, len(list))
	for i := range list {
		all[i] = list[i].Name
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
