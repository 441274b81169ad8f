package store

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/clock"
)

// Reason is why something that another node sent was refused.
type Reason string

// The reasons, as they are counted.
const (
	Malformed Reason = "malformed" // not in the format it claims
	Unknown   Reason = "unknown"   // of a version or kind that this software does not know
	Oversize  Reason = "oversize"
	Forged    Reason = "forged"  // its signature, or the proof of its writer's key, does not hold
	Foreign   Reason = "foreign" // its writer is not the one who may write there
	Future    Reason = "future"  // its version is too far ahead of the time
	Old       Reason = "old"     // gossip of something that must have been gossiped long ago
	Stale     Reason = "stale"   // what is here is newer
	Gone      Reason = "gone"    // its node has been dead for long
	Full      Reason = "full"    // this node keeps as much as it can already
	Dropped   Reason = "dropped" // more came than could be looked at
)

// Reasons are all of them.
var Reasons = []Reason{Malformed, Unknown, Oversize, Forged, Foreign, Future, Old, Stale, Gone, Full, Dropped}

// refusal is an error with its reason.
type refusal struct {
	reason Reason
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(r Reason, format string, args ...any) error {
	return &refusal{r, fmt.Errorf(format, args...)}
}

// reasonOf is the reason that an error is counted under.
func reasonOf(err error) Reason {
	var r *refusal
	var future *clock.FutureError
	var unknown *unknownError
	switch {
	case errors.As(err, &r):
		return r.reason
	case errors.As(err, &future):
		return Future
	case errors.As(err, &unknown):
		return Unknown
	case errors.Is(err, errOversize):
		return Oversize
	}
	return Malformed
}

// ownerOf is the one node that may write a key, "" when all may.
func ownerOf(key string) string {
	for _, prefix := range []string{cluster.NodePrefix, cluster.LivePrefix} {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			name, _, _ := strings.Cut(rest, "/")
			return name
		}
	}
	return ""
}

// live reports whether a key is not kept on disk.
func live(key string) bool { return strings.HasPrefix(key, cluster.LivePrefix) }

// checkKey says what is wrong with a key.
func checkKey(key string) error {
	switch {
	case key == "":
		return errors.New("a key has at least one byte")
	case len(key) > MaxKey:
		return fmt.Errorf("a key of %d bytes: want at most %d", len(key), MaxKey)
	}
	for _, prefix := range []string{cluster.NodePrefix, cluster.LivePrefix} {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			if name, below, _ := strings.Cut(rest, "/"); name == "" || below == "" {
				return fmt.Errorf("%q is no key: want %s<node>/<name>", key, prefix)
			}
		}
	}
	return nil
}

// check verifies what an item says of itself, all that needs no look at what is
// here. Who has it verified may believe that its writer wrote it.
func (s *Store) check(it *item) error {
	if err := checkKey(it.Key); err != nil {
		return &refusal{Malformed, err}
	}
	owner := ownerOf(it.Key)
	if owner != "" && owner != it.Writer {
		return refuse(Foreign, "%q was written by node %q: that is for node %q alone", it.Key, it.Writer, owner)
	}
	// Where there is one writer, it has nobody to win against by a wrong clock.
	if owner == "" {
		if err := s.clock.Check(it.Version); err != nil {
			return fmt.Errorf("%q of node %q: %w", it.Key, it.Writer, err)
		}
	}
	if err := s.identity.Verify(it.Writer, it.proof, signedContext, it.header, it.signature); err != nil {
		return &refusal{Forged, fmt.Errorf("%q of node %q: %w", it.Key, it.Writer, err)}
	}
	return nil
}

// complaints writes what is refused to the log: of each reason at once, and then
// at most once a minute with how many there were.
type complaints struct {
	log *slog.Logger

	mu    sync.Mutex
	state map[Reason]*complaint
}

type complaint struct {
	said  time.Time
	since int // refused since, without a line
}

const complainEvery = time.Minute

// quiet are reasons that are no news: these happen in a cluster that is well.
var quiet = map[Reason]bool{Stale: true, Gone: true, Dropped: true}

func (c *complaints) add(reason Reason, from string, err error) {
	if quiet[reason] {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	this := c.state[reason]
	if this == nil {
		this = &complaint{}
		c.state[reason] = this
	}
	this.since++
	if now := time.Now(); this.said.IsZero() || now.Sub(this.said) >= complainEvery {
		c.log.Warn("something that another node shares was refused", "reason", string(reason), "from", from, "error", err, "times", this.since)
		this.said, this.since = now, 0
	}
}
