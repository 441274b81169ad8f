package serving

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"fairlead/controlplane/model"
)

// Applier puts pools in force. It is all or nothing; on an error nothing has
// changed.
type Applier interface {
	ApplyPools(pools ...model.Pool) (changed bool, err error)
}

// Keeper keeps how every backend of the node serves, and puts in force what
// changes of that. Its methods may be called from any goroutine. Changes are
// made one at a time, so that no verdict is lost while a configuration is
// applied.
type Keeper struct {
	applier Applier
	now     func() time.Time
	changed func()

	mu       sync.Mutex
	pools    map[string]*pool
	settings map[model.BackendKey]model.BackendSetting
	dirty    map[string]bool // pools that the data path has not taken over yet
	recalled map[model.BackendKey]Verdict
	bases    map[string]Bases // by pool, whether there is such a pool or not
}

// New makes a keeper of no pools. changed, unless it is nil, is called after
// anything has changed, not under a lock.
func New(applier Applier, now func() time.Time, changed func()) *Keeper {
	if changed == nil {
		changed = func() {}
	}
	return &Keeper{applier: applier, now: now, changed: changed, pools: map[string]*pool{}, dirty: map[string]bool{}, bases: map[string]Bases{}}
}

// Recall has backends begin with verdicts that are known from before: of another
// process, which this one goes on for. It is called before the first Apply.
func (k *Keeper) Recall(known map[model.BackendKey]Verdict) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.recalled = known
}

// Apply makes a state and operators' settings the ones to go by. It hands
// publish the state with how each backend serves; when that fails nothing has
// changed. Backends that stay keep their verdicts.
func (k *Keeper) Apply(state *model.State, settings []model.BackendSetting, publish func(*model.State) error) error {
	defer k.changed()
	k.mu.Lock()
	defer k.mu.Unlock()
	now, byKey := k.now(), keyed(settings)
	pools := make(map[string]*pool, len(state.Pools))
	serving := *state
	serving.Pools = slices.Clone(state.Pools)
	for i := range serving.Pools {
		p := k.take(&state.Pools[i])
		serving.Pools[i].Backends = p.work(byKey, now)
		p.in, p.inBases, p.inRefused = serving.Pools[i].Backends, k.bases[p.declared.Name], p.declared.Refused
		serving.Pools[i].Base, serving.Pools[i].Also = p.inBases.Base, p.inBases.Also
		pools[p.declared.Name] = p
	}
	if err := publish(&serving); err != nil {
		return err
	}
	k.pools, k.settings, k.recalled = pools, byKey, nil
	clear(k.dirty)
	return nil
}

// SetPools makes other backends those of pools that there are. When that cannot be
// put in force nothing has changed.
func (k *Keeper) SetPools(pools []model.Pool) error {
	defer k.changed()
	k.mu.Lock()
	defer k.mu.Unlock()
	before := make(map[string]*pool, len(pools))
	for i := range pools {
		was := k.pools[pools[i].Name]
		if was == nil {
			return fmt.Errorf("there is no pool %q", pools[i].Name)
		}
		before[pools[i].Name] = was
	}
	for i := range pools {
		p := k.take(&pools[i])
		was := before[pools[i].Name]
		p.in, p.inBases, p.inRefused = was.in, was.inBases, was.inRefused
		k.pools[pools[i].Name], k.dirty[pools[i].Name] = p, true
	}
	if err := k.flush(); err != nil {
		maps.Copy(k.pools, before)
		return err
	}
	return nil
}

func keyed(settings []model.BackendSetting) map[model.BackendKey]model.BackendSetting {
	byKey := make(map[model.BackendKey]model.BackendSetting, len(settings))
	for _, s := range settings {
		byKey[s.BackendKey] = s
	}
	return byKey
}

// take makes what is to be known of a pool out of what is known of it.
func (k *Keeper) take(declared *model.Pool) *pool {
	p := &pool{declared: *declared, backends: make([]backend, len(declared.Backends))}
	known := map[model.BackendKey]*backend{}
	if before := k.pools[declared.Name]; before != nil {
		p.settled = before.settled
		for i := range before.backends {
			known[before.backends[i].key] = &before.backends[i]
		}
	}
	for i := range declared.Backends {
		b := &p.backends[i]
		b.key = model.BackendKey{Pool: declared.Name, Endpoint: declared.Backends[i].Endpoint()}
		if declared.Check == nil {
			continue
		}
		if before := known[b.key]; before != nil {
			b.verdict, b.ramp = before.verdict, before.ramp
		} else if v, ok := k.recalled[b.key]; ok {
			b.verdict = v
		}
	}
	if declared.Check == nil {
		p.settled = false
	} else if len(k.recalled) > 0 {
		p.settle()
	}
	return p
}

// Set makes other settings of operators the ones to go by.
func (k *Keeper) Set(settings []model.BackendSetting) error {
	defer k.changed()
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.settings
	k.settings = keyed(settings)
	for key, s := range k.settings {
		if was, ok := before[key]; !ok || !equalSettings(was, s) {
			k.dirty[key.Pool] = true
		}
	}
	for key := range before {
		if _, stays := k.settings[key]; !stays {
			k.dirty[key.Pool] = true
		}
	}
	if err := k.flush(); err != nil {
		k.settings = before
		return err
	}
	return nil
}

func equalSettings(a, b model.BackendSetting) bool {
	sameWeight := a.Weight == nil && b.Weight == nil || a.Weight != nil && b.Weight != nil && *a.Weight == *b.Weight
	return a.State == b.State && a.Deadline.Equal(b.Deadline) && sameWeight
}

// Report takes over what checks have found. Verdicts about backends that are no
// more are ignored. On an error the verdicts hold all the same, and what they
// change is put in force by a later call.
func (k *Keeper) Report(verdicts map[model.BackendKey]Verdict) error {
	defer k.changed()
	k.mu.Lock()
	defer k.mu.Unlock()
	touched := map[string]bool{}
	for key := range verdicts {
		touched[key.Pool] = true
	}
	for name := range touched {
		p := k.pools[name]
		if p == nil || p.declared.Check == nil {
			continue
		}
		for i := range p.backends {
			b := &p.backends[i]
			if v, ok := verdicts[b.key]; ok && v != b.verdict {
				p.judge(b, v)
				k.dirty[name] = true
			}
		}
		p.settle()
	}
	return k.flush()
}

// Tick puts in force what time changes, and what could not be put in force
// before. It is called several times a second.
func (k *Keeper) Tick() error {
	worked, err := k.tick()
	if worked {
		k.changed()
	}
	return err
}

func (k *Keeper) tick() (worked bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	for name, p := range k.pools {
		if !p.next.IsZero() && !now.Before(p.next) {
			k.dirty[name] = true
		}
	}
	return len(k.dirty) > 0, k.flush()
}

// flush works the dirty pools out and puts in force those that serve
// otherwise than before.
func (k *Keeper) flush() error {
	var pools []model.Pool
	now := k.now()
	for _, name := range slices.Sorted(maps.Keys(k.dirty)) {
		p := k.pools[name]
		if p == nil {
			delete(k.dirty, name)
			continue
		}
		next := p.declared
		bases := k.bases[name]
		next.Backends, next.Base, next.Also = p.work(k.settings, now), bases.Base, bases.Also
		if slices.Equal(next.Backends, p.in) && bases.equal(p.inBases) && next.Refused == p.inRefused {
			delete(k.dirty, name)
			continue
		}
		pools = append(pools, next)
	}
	if len(pools) == 0 {
		return nil
	}
	if _, err := k.applier.ApplyPools(pools...); err != nil {
		return err
	}
	for i := range pools {
		p := k.pools[pools[i].Name]
		p.in, p.inBases, p.inRefused = pools[i].Backends, Bases{pools[i].Base, pools[i].Also}, pools[i].Refused
	}
	clear(k.dirty)
	return nil
}

// Pool sums a pool up.
func (k *Keeper) Pool(name string) (Pool, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, ok := k.pools[name]
	if !ok {
		return Pool{}, false
	}
	return p.summary, true
}

// Backends tells how each backend of a pool serves, in the order declared.
func (k *Keeper) Backends(pool string) (keys []model.BackendKey, backends []Backend) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, ok := k.pools[pool]
	if !ok {
		return nil, nil
	}
	for i := range p.backends {
		keys = append(keys, p.backends[i].key)
		backends = append(backends, p.backends[i].result)
	}
	return keys, backends
}

// Settings are what operators have set.
func (k *Keeper) Settings() []model.BackendSetting {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Values(k.settings))
}
