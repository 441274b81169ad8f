package quorum

import (
	"errors"
	"slices"
	"time"

	"fairlead/cluster"
)

const topic cluster.Topic = "health"

// mostRecords is how many backends that are not in this node's desired state it
// keeps views of.
const mostRecords = 1 << 20

// share tells other nodes the views of this one, and takes theirs. A node tells all
// its views to whom it has a new connection, and after that only what changes, with
// numbers in sequence; so nothing is said twice, and what is lost is noticed and
// asked for.
type share struct {
	core     *core
	epoch    uint64
	sequence uint64 // of the last change that was told
	told     map[ID]State
	pending  map[ID]bool // whose own view may be another than told
	since    time.Time   // when the first of pending was noted
	peers    map[string]*peer
	nextBeat time.Time
	nextLook time.Time
	stats    Stats
}

// Stats count what is told about health, since the start.
type Stats struct {
	Sent, Received, Refused  uint64 // messages
	BytesSent, BytesReceived uint64
	Wholes                   uint64 // times that all views were told to one node
	Asked                    uint64 // times that another node was asked for all of its views
}

// peer is another node.
type peer struct {
	voter      *voter
	member     bool // it is in the cluster and serves
	epoch      uint64
	sequence   uint64
	whole      bool // its views are complete up to sequence
	telling    bool // it has begun to tell all views
	round      uint32
	heard      time.Time
	owed       bool // it is to be told all views
	retry      time.Time
	asked      time.Time
	ask        bool // it is to be asked for all views
	complained bool
}

// letter is a message to some nodes.
type letter struct {
	message []byte
	to      []string
}

func newShare(c *core, epoch uint64) *share {
	return &share{core: c, epoch: epoch, told: map[ID]State{}, pending: map[ID]bool{}, peers: map[string]*peer{}}
}

func (s *share) peer(name string) *peer {
	p := s.peers[name]
	if p == nil {
		p = &peer{voter: s.core.voter(name)}
		s.peers[name] = p
	}
	return p
}

// members takes over who is in the cluster.
func (s *share) members(all []cluster.Node) {
	serves := make(map[string]bool, len(all))
	for i := range all {
		serves[all[i].Name] = all[i].State.Serves()
	}
	for name := range serves {
		if name != s.core.self.name {
			s.peer(name)
		}
	}
	for name, p := range s.peers {
		p.member = serves[name]
		s.judge(p, time.Now())
	}
}

// judge says whether a peer's views may count.
func (s *share) judge(p *peer, now time.Time) {
	s.core.setLive(p.voter, p.member && p.whole && now.Sub(p.heard) < silentAfter)
}

// age does what the time alone brings.
func (s *share) age(now time.Time) {
	for name, p := range s.peers {
		s.judge(p, now)
		if !p.member && now.Sub(p.heard) > forgetAfter {
			s.core.forget(p.voter)
			delete(s.peers, name)
			delete(s.core.voters, name)
		}
	}
}

// take takes a message over.
func (s *share) take(from string, m *message, now time.Time) {
	p := s.peer(from)
	p.heard = now
	defer s.judge(p, now)
	if m.kind == want {
		p.owed = true
		return
	}
	if p.epoch != m.epoch {
		p.epoch, p.whole, p.sequence = m.epoch, false, 0
	}
	switch m.kind {
	case first, only:
		p.round++
		p.telling = true
	case middle, last:
		if !p.telling {
			return // the beginning was lost with a connection; the next one brings all
		}
	case change:
		if !p.whole || m.sequence != p.sequence+1 {
			s.want(p, m.sequence)
			return
		}
		p.sequence = m.sequence
	case beat:
		s.want(p, m.sequence)
		return
	}
	for i := range m.views {
		s.view(p, &m.views[i], now)
	}
	if m.kind == last || m.kind == only {
		p.whole, p.telling, p.sequence, p.ask = true, false, m.sequence, false
		s.core.sweep(p.voter, p.round)
	}
}

// want notes that a peer is to be asked for all its views, unless they are known.
func (s *share) want(p *peer, sequence uint64) {
	p.ask = !p.whole || p.sequence != sequence
}

func (s *share) view(p *peer, t *told, now time.Time) {
	if s.core.records[t.id] == nil && len(s.core.records) >= len(s.core.keys)+mostRecords {
		return
	}
	s.core.say(t.id, vote{voter: p.voter, state: t.state, since: now.Add(-t.age), reason: t.reason, round: p.round})
}

// letters are the messages that are to be sent now.
func (s *share) letters(now time.Time) (out []letter) {
	var all []string
	for name, p := range s.peers {
		if p.member && !p.owed {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	s.compare(now)
	switch {
	case len(s.pending) > 0 && now.Sub(s.since) >= gather:
		out = s.changes(all, now)
		s.nextBeat = now.Add(beatEvery)
	case now.After(s.nextBeat):
		s.nextBeat = now.Add(beatEvery)
		out = append(out, s.letter(&message{kind: beat}, all))
	}
	var owed, asked []string
	for name, p := range s.peers {
		if !p.member {
			continue
		}
		if p.owed && !now.Before(p.retry) {
			p.owed, p.retry = false, now.Add(wantEvery)
			owed = append(owed, name)
		}
		if p.ask && now.Sub(p.asked) >= wantEvery {
			p.ask, p.asked = false, now
			asked = append(asked, name)
		}
	}
	if len(owed) > 0 {
		out = append(out, s.wholes(owed, now)...)
		s.stats.Wholes += uint64(len(owed))
	}
	if len(asked) > 0 {
		out = append(out, s.letter(&message{kind: want}, asked))
		s.stats.Asked += uint64(len(asked))
	}
	return out
}

// compare finds own views that are others than were told.
func (s *share) compare(now time.Time) {
	for _, id := range s.core.own {
		state := Unknown
		if r := s.core.records[id]; r != nil {
			if v := r.vote(s.core.self); v != nil {
				state = v.state
			}
		}
		if s.told[id] == state {
			delete(s.pending, id)
			continue
		}
		if len(s.pending) == 0 {
			s.since = now
		}
		s.pending[id] = true
	}
	s.core.own = s.core.own[:0]
}

// changes tell what has changed. Each message is a change of its own.
func (s *share) changes(to []string, now time.Time) (out []letter) {
	ids := make([]ID, 0, len(s.pending))
	for id := range s.pending {
		ids = append(ids, id)
	}
	clear(s.pending)
	slices.Sort(ids)
	for part := range slices.Chunk(ids, mostInMessage) {
		m := &message{kind: change}
		for _, id := range part {
			v := s.own(id, now)
			m.views = append(m.views, v)
			if v.state == Unknown {
				delete(s.told, id)
			} else {
				s.told[id] = v.state
			}
		}
		s.sequence++
		out = append(out, s.letter(m, to))
	}
	return out
}

// wholes tell all views.
func (s *share) wholes(to []string, now time.Time) (out []letter) {
	ids := make([]ID, 0, len(s.told))
	for id := range s.told {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	m := &message{kind: first}
	for {
		n := min(len(ids), mostInMessage)
		for _, id := range ids[:n] {
			v := s.own(id, now)
			v.state = s.told[id] // what is newer goes with the next change
			m.views = append(m.views, v)
		}
		ids = ids[n:]
		switch {
		case len(ids) > 0:
		case m.kind == first:
			m.kind = only
		default:
			m.kind = last
		}
		out = append(out, s.letter(m, to))
		if len(ids) == 0 {
			return out
		}
		m = &message{kind: middle}
	}
}

// own is this node's view as it is told.
func (s *share) own(id ID, now time.Time) told {
	t := told{id: id}
	if r := s.core.records[id]; r != nil {
		if v := r.vote(s.core.self); v != nil {
			t.state, t.age, t.reason = v.state, now.Sub(v.since), v.reason
		}
	}
	return t
}

func (s *share) letter(m *message, to []string) letter {
	m.epoch, m.sequence = s.epoch, s.sequence
	return letter{m.append(nil), to}
}

// sent notes what became of a message.
func (s *share) sent(to string, bytes int, err error) {
	if err == nil {
		s.stats.Sent++
		s.stats.BytesSent += uint64(bytes)
		return
	}
	if p := s.peers[to]; p != nil && errors.Is(err, cluster.ErrBacklog) {
		p.owed = true // without a connection nothing is owed until there is one
	}
}

func (s *share) lookDue(now time.Time) bool {
	if now.Before(s.nextLook) {
		return false
	}
	s.nextLook = now.Add(look)
	return true
}

// wait is how long nothing has to be done.
func (s *share) wait(now time.Time) time.Duration {
	if len(s.pending) > 0 {
		return max(time.Millisecond, gather-now.Sub(s.since))
	}
	return look
}
