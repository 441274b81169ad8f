package model

import "net/netip"

// PoolChecker checks pools of a valid state one at a time, at a cost that
// follows from the pool alone. It never changes; a state with other services,
// addresses or settings needs another one.
type PoolChecker struct {
	state        *State // with defaults
	roles        map[netip.Addr]string
	snat4, snat6 bool
	services     map[string][]int // by pool: indexes of the services that use it
}

// NewPoolChecker makes a checker of a valid state that has its defaults
// (WithDefaults). The state's pools do not matter to it.
func NewPoolChecker(valid *State) *PoolChecker {
	v := &validator{state: valid}
	c := &PoolChecker{state: valid, roles: v.roles(), services: make(map[string][]int, len(valid.Services))}
	c.snat4, c.snat6 = v.snatFamilies()
	for i := range valid.Services {
		c.services[valid.Services[i].Pool] = append(c.services[valid.Services[i].Pool], i)
	}
	return c
}

// Services are the indexes of the services that use a pool.
func (c *PoolChecker) Services(pool string) []int { return c.services[pool] }

// Check returns what Validate would of the state with p as its pool of this
// index, if that pool's name is p's and the number of all backends within
// bounds.
func (c *PoolChecker) Check(index int, p *Pool) []error {
	v := &validator{state: c.state}
	v.poolSize(index, p)
	v.backends(index, p)
	v.health(index, p)
	for _, i := range c.services[p.Name] {
		v.method(i, &c.state.Services[i], p, c.snat4, c.snat6)
		v.checkPort(i, &c.state.Services[i], p)
	}
	v.foreign(index, p, c.roles)
	return v.sorted()
}
