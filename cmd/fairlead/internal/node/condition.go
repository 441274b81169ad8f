package node

import (
	"fmt"

	"fairlead/controlplane/api"
	"fairlead/dataplane/fib"
)

// mostConditions is how many conditions a status lists.
const mostConditions = 100

// condition adds to what is not as it is wanted.
func condition(s *api.Summary, health api.Health, subject, format string, args ...any) {
	if health == api.HealthFailing || s.Health == api.HealthOK {
		s.Health = health
	}
	if len(s.Conditions) < mostConditions {
		s.Conditions = append(s.Conditions, api.Condition{Health: health, Subject: subject, Message: fmt.Sprintf(format, args...)})
	}
}

// judge says how the node is. The conditions of services are found by counts.
func (n *Node) judge(s *api.Summary, missing []string) {
	services := s.Conditions
	worst := s.Health
	s.Conditions, s.Health = nil, api.HealthOK
	if s.Data.PID == 0 {
		condition(s, api.HealthFailing, "data process", "none forwards")
	}
	for _, name := range missing {
		condition(s, api.HealthDegraded, "interface "+name, "it is not there")
	}
	if s.Data.PID != 0 && s.Generation.Acknowledged < s.Generation.Published {
		condition(s, api.HealthDegraded, "generation", "%d is published, %d is what every worker decides by", s.Generation.Published, s.Generation.Acknowledged)
	}
	for _, c := range n.announce.conditions() {
		condition(s, api.HealthDegraded, c[0], "%s", c[1])
	}
	for _, c := range n.ownerConditions() {
		condition(s, api.HealthDegraded, c[0], "%s", c[1])
	}
	for _, c := range append(n.divided.conditions(), n.flowing.conditions()...) {
		condition(s, api.HealthDegraded, c[0], "%s", c[1])
	}
	for _, c := range n.tableConditions() {
		condition(s, api.HealthDegraded, c[0], "%s", c[1])
	}
	for _, c := range s.Desired.Conditions {
		condition(s, api.HealthDegraded, "desired state", "%s", c.Message)
	}
	for _, w := range s.Warnings {
		condition(s, api.HealthDegraded, "configuration", "%s", w)
	}
	if len(services) > 0 {
		s.Conditions = append(s.Conditions, services[:min(len(services), mostConditions-len(s.Conditions))]...)
		if worst == api.HealthFailing || s.Health == api.HealthOK {
			s.Health = worst
		}
	}
}

// counts counts what there is, a few services at a time, and notes the services
// that cannot serve.
func (n *Node) counts(s *api.Summary) (c api.Counts) {
	s.Health = api.HealthOK
	counted := make(map[uint32]int) // backends that are up, by pool
	for first, more := 0, true; more; first += servicesAtOnce {
		more = n.lookAt(first, func(v *view, svc *fib.Service) {
			c.Services++
			up, known := counted[svc.Pool]
			pool := v.snapshot.Pool(svc.Pool)
			if !known {
				up = v.count(pool, &c)
				counted[svc.Pool] = up
			}
			switch {
			case up == 0:
				condition(s, api.HealthFailing, "service "+v.snapshot.Name(svc.Name), "none of the %d backends of pool %s can serve",
					pool.MemberCount, v.snapshot.Name(pool.Name))
			case uint32(up) < pool.MemberCount && !known:
				if lost := v.lost(pool); lost > 0 {
					condition(s, api.HealthDegraded, "pool "+v.snapshot.Name(pool.Name), "%d of %d backends cannot serve", lost, pool.MemberCount)
				}
			}
		})
	}
	c.Pools = len(counted)
	return c
}

// count counts the backends of a pool by state.
func (v *view) count(pool *fib.Pool, c *api.Counts) (up int) {
	for _, slot := range v.snapshot.Members(pool) {
		c.Backends++
		switch v.state(v.snapshot.Backend(slot)) {
		case "up":
			up++
			c.Up++
		case "down":
			c.Down++
		case "draining":
			c.Draining++
		case "unresolved":
			c.Unresolved++
		}
	}
	return up
}

// lost is how many backends of a pool cannot serve although they are meant to.
func (v *view) lost(pool *fib.Pool) (lost int) {
	for _, slot := range v.snapshot.Members(pool) {
		if state := v.state(v.snapshot.Backend(slot)); state == "down" || state == "unresolved" {
			lost++
		}
	}
	return lost
}
