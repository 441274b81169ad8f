package clock

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"fairlead/cluster"
)

// Heard is told what another node's clock said just now.
func (c *Clock) Heard(node string, wall time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.others[node] = time.Duration(wall.UnixNano()) - c.mono()
}

// Keep forgets what nodes have said that are not to be kept.
func (c *Clock) Keep(keep func(node string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for node := range c.others {
		if !keep(node) {
			delete(c.others, node)
		}
	}
}

// skew is what the nodes think of this node's clock.
type skew struct {
	agree, differ int           // nodes, this one among those that agree
	median        time.Duration // of those that differ: how far they are ahead of this node
	names         []string      // of those that differ
}

// skew follows jumps of this machine's clock at once: others are remembered
// against time that does not jump.
func (c *Clock) skew() skew {
	s := skew{agree: 1}
	if len(c.others) == 0 {
		return s
	}
	mine := time.Duration(c.wall().UnixNano()) - c.mono()
	var ahead []time.Duration
	for node, theirs := range c.others {
		if d := theirs - mine; d > c.limit || d < -c.limit {
			ahead = append(ahead, d)
			s.names = append(s.names, node)
			continue
		}
		s.agree++
	}
	if s.differ = len(ahead); s.differ > 0 {
		slices.Sort(ahead)
		slices.Sort(s.names)
		s.median = ahead[len(ahead)/2]
	}
	return s
}

// SkewError says that this node's clock and those of others are too far apart for
// this node to write what the last writer wins.
type SkewError struct {
	Ahead time.Duration // of this node; negative: behind
	Nodes []string      // that differ
	Most  bool          // they are more than those that agree
	Limit time.Duration
}

// shown is how many names an error has at most.
const shown = 3

func (e *SkewError) Error() string {
	direction, by := "ahead of", e.Ahead
	if by < 0 {
		direction, by = "behind", -by
	}
	names := e.Nodes
	more := ""
	if len(names) > shown {
		names, more = names[:shown], fmt.Sprintf(" and %d more", len(e.Nodes)-shown)
	}
	text := fmt.Sprintf("the clock of this node is %s %s that of %s%s (at most %s are allowed)",
		by.Round(time.Second), direction, strings.Join(names, ", "), more, e.Limit)
	if e.Most {
		return text + ": nothing that nodes share can be changed here until it is right"
	}
	return text + ": nothing that nodes share can be changed until they agree"
}

func (s skew) err(limit time.Duration) error {
	return &SkewError{Ahead: -s.median, Nodes: s.names, Most: s.differ > s.agree, Limit: limit}
}

// Wrong is the *SkewError that Stamp would fail with, nil if it would not.
func (c *Clock) Wrong() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.skew(); s.differ >= s.agree {
		return s.err(c.limit)
	}
	return nil
}

// Adrift reports whether versions have been given or seen that others will not
// accept for long: this node's clock was ahead by more than twice the limit, and
// is now what most others' are. Some other node has to have said so.
func (c *Clock) Adrift() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.skew()
	return s.agree > 1 && s.agree > s.differ && span(c.last.Wall-c.wall().UnixMilli()) > 2*c.limit
}

// Restart forgets what was given and seen, but for one version. It is for
// whoever has replaced all that had later ones: see Adrift.
func (c *Clock) Restart(last cluster.Version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = last
	if last == (cluster.Version{}) {
		c.last.Wall = math.MinInt64
	}
}
