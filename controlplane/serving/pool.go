package serving

import (
	"time"

	"fairlead/controlplane/model"
)

// A slow start begins with least, in steps of step, per mille of a backend's
// share.
const (
	fullShare = 1000
	leastSlow = 50
	slowStep  = 50
)

// pool is what is known of one pool.
type pool struct {
	declared  model.Pool
	backends  []backend // as declared
	settled   bool      // once all of its backends have been judged
	summary   Pool
	in        []model.Backend // as the data path has them; nil: it has not taken them yet
	inBases   Bases           // and the pool's bases, likewise
	inRefused int             // and what it refuses
	next      time.Time       // when time changes something, the zero time: never
}

// backend is what is known of a pool's backend.
type backend struct {
	key     model.BackendKey
	verdict Verdict
	ramp    time.Time // when its slow start began; the zero time: it has its full share
	result  Backend
}

// judge takes over a verdict. A backend that comes alive in a pool that has
// settled starts slowly.
func (p *pool) judge(b *backend, v Verdict) {
	if v.Health == Up && b.verdict.Health != Up && p.settled && p.declared.SlowStart > 0 {
		b.ramp = v.Since
	}
	if v.Health != Up {
		b.ramp = time.Time{}
	}
	b.verdict = v
}

// settle notes that all backends have been judged, from when on a new one has
// to prove itself before it gets flows. Until then who is not judged is used:
// a node that starts does not know, and there may be nobody else.
func (p *pool) settle() {
	for i := range p.backends {
		if p.backends[i].verdict.Health == Unknown {
			return
		}
	}
	p.settled = true
}

// work works out how the pool's backends serve at a moment.
func (p *pool) work(settings map[model.BackendKey]model.BackendSetting, now time.Time) []model.Backend {
	p.summary = Pool{Backends: len(p.backends)}
	p.next = time.Time{}
	out := make([]model.Backend, len(p.backends))
	for i := range p.backends {
		b := &p.backends[i]
		out[i] = p.declared.Backends[i]
		b.result = Backend{Verdict: b.verdict, Weight: out[i].Weight}
		if p.declared.Check == nil {
			b.result.Verdict = Verdict{Health: Up}
		}
		p.administer(b, settings[b.key], now)
		if b.result.Why == "" {
			p.summary.Enabled++
			switch b.result.Health {
			case Up:
				p.summary.Healthy++
			case Unknown:
				p.summary.Unknown++
			}
		}
	}
	p.examine(now)
	for i := range p.backends {
		r := &p.backends[i].result
		r.Used = !r.Ended && r.Withheld < fullShare && r.Weight > 0
		if r.Used {
			p.summary.Used++
		}
		out[i].Weight = r.Weight
		out[i].Serving = model.Serving{Withheld: r.Withheld, Down: r.Ended}
	}
	return out
}

// administer applies what an operator set.
func (p *pool) administer(b *backend, s model.BackendSetting, now time.Time) {
	r := &b.result
	if s.Weight != nil {
		r.Weight = *s.Weight
	}
	switch {
	case s.State == model.Disabled:
		r.Withheld, r.Ended, r.Why = fullShare, true, "disabled"
	case s.State == model.Drained && !s.Deadline.IsZero() && !now.Before(s.Deadline):
		r.Withheld, r.Ended, r.Why = fullShare, true, "drained"
	case s.State == model.Drained:
		r.Withheld, r.Why = fullShare, "draining"
		p.wake(s.Deadline)
	case r.Weight == 0:
		r.Why = "weight is 0"
	}
}

// examine applies what health says to the backends that are enabled.
func (p *pool) examine(now time.Time) {
	s := &p.summary
	unknownUsed := !p.settled || s.Healthy == 0
	alive := s.Healthy
	if unknownUsed {
		alive += s.Unknown
	}
	s.Panic = alive < s.Enabled && alive*100 < p.declared.PanicThreshold*s.Enabled
	ends := p.declared.Check == nil || !p.declared.Check.KeepFlows
	for i := range p.backends {
		b := &p.backends[i]
		r := &b.result
		dead := r.Health == Down && !s.Panic
		switch {
		case r.Why != "":
			// Flows that drain from a backend that dies do not live on there.
			r.Ended = r.Ended || dead && ends
		case dead:
			r.Withheld, r.Ended, r.Why = fullShare, ends, "down"
		case r.Health == Down:
			r.Why = "down, used in panic"
		case r.Health == Unknown && !unknownUsed && !s.Panic:
			r.Withheld, r.Why = fullShare, "not checked yet"
		case !b.ramp.IsZero():
			p.slow(b, now)
		}
	}
}

// slow withholds a part of the share of a backend that has just come alive.
func (p *pool) slow(b *backend, now time.Time) {
	elapsed, whole := now.Sub(b.ramp), p.declared.SlowStart
	if elapsed >= whole {
		b.ramp = time.Time{}
		return
	}
	share := int(elapsed*fullShare/whole) / slowStep * slowStep
	b.result.Withheld = fullShare - max(share, leastSlow)
	b.result.Why = "slow start"
	p.wake(b.ramp.Add((time.Duration(share+slowStep)*whole + fullShare - 1) / fullShare))
}

// wake sees to it that the pool is looked at again at a time.
func (p *pool) wake(at time.Time) {
	if !at.IsZero() && (p.next.IsZero() || at.Before(p.next)) {
		p.next = at
	}
}
