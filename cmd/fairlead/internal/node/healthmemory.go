package node

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"fairlead/controlplane/health"
	"fairlead/controlplane/model"
)

// recallable is how old verdicts of another process may be.
const recallable = time.Minute

// verdicts are what health checks have found, for the process that follows.
type verdicts struct {
	At       time.Time `json:"at"`
	Backends []verdict `json:"backends"`
}

type verdict struct {
	Pool     string         `json:"pool"`
	Endpoint netip.AddrPort `json:"endpoint"`
	Up       bool           `json:"up"`
	Since    time.Time      `json:"since"`
}

// HealthVerdicts are the present verdicts of the health checks, for the process
// that takes this node over (RecallHealth).
func (n *Node) HealthVerdicts() ([]byte, error) {
	out := verdicts{At: time.Now()}
	for _, r := range n.HealthResults() {
		if r.State != health.Unknown {
			out.Backends = append(out.Backends, verdict{r.Key.Pool, r.Key.Endpoint, r.State == health.Up, r.Since})
		}
	}
	return json.Marshal(out)
}

// RecallHealth has the node begin with the verdicts of the process that it
// follows, so that what is dead need not be found dead again. It is called
// before Start. Verdicts older than a minute say nothing any more.
func (n *Node) RecallHealth(data []byte) error {
	var in verdicts
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("verdicts of health checks: %w", err)
	}
	if age := time.Since(in.At); age < -recallable || age > recallable {
		return nil
	}
	n.recalled = make(map[model.BackendKey]health.Verdict, len(in.Backends))
	for _, v := range in.Backends {
		key, state := model.BackendKey{Pool: v.Pool, Endpoint: v.Endpoint}, health.Down
		if v.Up {
			state = health.Up
		}
		n.recalled[key] = health.Verdict{Key: key, State: state, Since: v.Since, Reason: "as known before this process began"}
	}
	return nil
}

// recall gives targets what is known of them from before, once, and lists that.
func (c *checks) recall(list []health.Target) (found []health.Verdict) {
	for i := range list {
		if v, ok := c.node.recalled[list[i].Key]; ok {
			list[i].Initial, list[i].Since = v.State, v.Since
			found = append(found, v)
		}
	}
	c.node.recalled = nil
	return found
}
