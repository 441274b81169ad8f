package report

import (
	"fmt"
	"slices"
	"strings"

	"fairlead/k8ssync/kube"
)

// Node is a live node and what it tells.
type Node struct {
	Name   string
	Told   bool // it tells something that can be read: it takes part in Kubernetes
	Report Report
}

// Sum is what all live nodes tell.
type Sum struct {
	Nodes []Node // by name
}

// Of is the sum of what fellows tell now. What cannot be read counts as nothing
// told.
func Of(fellows kube.Fellows) Sum {
	reports := fellows.Reports()
	var s Sum
	for _, name := range fellows.Live() {
		n := Node{Name: name}
		if raw, is := reports[name]; is {
			if r, err := Decode(raw); err == nil {
				n.Told, n.Report = true, r
			}
		}
		s.Nodes = append(s.Nodes, n)
	}
	slices.SortFunc(s.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// Connected are the names of the nodes that the API server answers and that have
// seen everything: those that can write.
func (s *Sum) Connected() []string {
	var out []string
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Told && n.Report.Connected && n.Report.Synced {
			out = append(out, n.Name)
		}
	}
	return out
}

// Why is the reason that a node does not go by what Kubernetes says.
type Why string

// The reasons.
const (
	Silent       Why = "Silent"       // the node takes no part in Kubernetes, or has not begun to
	Disconnected Why = "Disconnected" // it goes on with what it knew
	Refused      Why = "Refused"      // its data path could not take it
	Behind       Why = "Behind"       // it is about to
)

// Missing is a node on which an object is not in force.
type Missing struct {
	Node   string
	Why    Why
	Detail string // a reason of the node's own, or ""
}

// String is the node and the reason in words.
func (m Missing) String() string {
	switch m.Why {
	case Silent:
		return m.Node + " takes no part in Kubernetes"
	case Disconnected:
		return m.Node + " has no connection to the API server" + colon(m.Detail)
	case Refused:
		return m.Node + " cannot put it in force" + colon(m.Detail)
	default:
		return m.Node + " has not put it in force yet"
	}
}

func colon(detail string) string {
	if detail == "" {
		return ""
	}
	return " (" + detail + ")"
}

// Programmed is where an object is in force.
type Programmed struct {
	On, Of  int       // nodes
	Missing []Missing // the others, by name
}

// All reports whether the object is in force on every node, of which there is one
// at least.
func (p *Programmed) All() bool { return p.Of > 0 && p.On == p.Of }

// Settled reports whether waiting changes nothing: no node is about to follow.
func (p *Programmed) Settled() bool {
	return p.Of > 0 && !slices.ContainsFunc(p.Missing, func(m Missing) bool { return m.Why == Behind })
}

// maxNamed is how many nodes a sentence names.
const maxNamed = 5

// String is one sentence: "Programmed on 2 of 3 nodes: lb3 has no connection to
// the API server".
func (p *Programmed) String() string {
	s := fmt.Sprintf("Programmed on %d of %d nodes", p.On, p.Of)
	if p.Of == 1 {
		s = fmt.Sprintf("Programmed on %d of 1 node", p.On)
	}
	for i, m := range p.Missing {
		switch {
		case i == 0:
			s += ": "
		default:
			s += "; "
		}
		if i == maxNamed {
			return s + fmt.Sprintf("and %d more", len(p.Missing)-i)
		}
		s += m.String()
	}
	return s
}

// Programmed is where the object is in force, as it is in Kubernetes since
// version, the resourceVersion of what was written to it or seen of it last.
func (s *Sum) Programmed(key kube.Key, version string) Programmed {
	p := Programmed{Of: len(s.Nodes)}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		m := Missing{Node: n.Name}
		reason, refused := refusedReason(&n.Report, key)
		switch {
		case !n.Told:
			m.Why = Silent
		case refused:
			m.Why, m.Detail = Refused, reason
		case n.Report.Synced && Reached(n.Report.through(key.Kind), version):
			p.On++
			continue
		case !n.Report.Connected:
			m.Why, m.Detail = Disconnected, n.Report.Error
		default:
			m.Why = Behind
		}
		p.Missing = append(p.Missing, m)
	}
	return p
}

// Withdrawn reports whether no node that takes part in Kubernetes goes by what
// was said before version. Those that do not, or may not, are named.
func (s *Sum) Withdrawn(kind kube.Kind, version string) (done bool, others []Missing) {
	for i := range s.Nodes {
		n := &s.Nodes[i]
		switch {
		case !n.Told || n.Report.Synced && Reached(n.Report.through(kind), version):
		case !n.Report.Connected:
			others = append(others, Missing{Node: n.Name, Why: Disconnected, Detail: n.Report.Error})
		default:
			others = append(others, Missing{Node: n.Name, Why: Behind})
		}
	}
	return len(others) == 0, others
}
