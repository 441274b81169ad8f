package report

import (
	"crypto/sha256"
	"encoding/binary"

	"fairlead/k8ssync/kube"
)

// First is the name with the greatest random weight for what (rendezvous hashing):
// whoever has the same names comes to the same answer, and it changes only when the
// first itself goes or one comes that is before it. Of no names it is "".
func First(what string, names []string) string {
	first, most := "", uint64(0)
	for _, name := range names {
		sum := sha256.Sum256([]byte(what + "\x00" + name))
		w := binary.BigEndian.Uint64(sum[:])
		if first == "" || w > most || w == most && name < first {
			first, most = name, w
		}
	}
	return first
}

// Gone is what Fellows have besides that know of nodes which do not run any more.
type Gone interface {
	// Gone reports whether a node is known to be dead, or to have left.
	Gone(name string) bool
}

// GoneOf reports whether a node is known not to run any more. It is nil when these
// fellows know of none.
func GoneOf(fellows kube.Fellows) func(name string) bool {
	if g, is := fellows.(Gone); is {
		return g.Gone
	}
	return nil
}

// Candidate is the node that should stand for a Lease: the first of those that the
// API server answers. It is "" when there is none, as far as this node knows.
func Candidate(fellows kube.Fellows, lease string) string {
	s := Of(fellows)
	return First(lease, s.Connected())
}
