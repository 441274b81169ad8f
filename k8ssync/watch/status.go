package watch

import (
	"errors"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// State is how the watch of one kind of objects is.
type State string

// The states.
const (
	Connecting State = "connecting" // nothing has been answered yet
	Watching   State = "watching"
	Away       State = "away"      // no answer, or one by which the server or its database is not well
	Forbidden  State = "forbidden" // the account lacks a rule
	Missing    State = "missing"   // the API server does not know such objects
)

// Status is how a connection is at a moment.
type Status struct {
	Server    string
	Connected bool      // all that is followed is followed
	Since     time.Time // when it became so
	Error     string    // why there is no connection; "" when there is one, or nothing is known yet
	Code      int       // the HTTP status that came with it; 0: there was no answer
	Note      string    // what is wrong with the credentials' files though older ones are used; mostly ""
	Kinds     []KindStatus
}

// KindStatus is how the watch of one kind of objects is.
type KindStatus struct {
	Name    string // resource and group, as kubectl takes it
	State   State
	Since   time.Time
	Synced  bool // all objects have been seen at least once
	Objects int
	Error   string
	Code    int
	Rule    string // that RBAC must grant, when the state is Forbidden
}

// Status is how the connection is at the moment.
func (c *Connection) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Server: c.transport.server(), Connected: c.up, Since: c.since, Note: c.transport.note()}
	if !c.up {
		s.Error, s.Code = c.last.text, c.last.code
	}
	for _, k := range c.kinds {
		one := KindStatus{Name: k.name, State: k.state, Since: k.since, Synced: k.synced, Objects: k.count(), Error: k.failure.text, Code: k.failure.code}
		if k.state == Forbidden {
			one.Rule = k.rule
		}
		s.Kinds = append(s.Kinds, one)
	}
	return s
}

// Connected reports whether all that is followed is followed at the moment.
func (c *Connection) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
}

// judge says what an error of a list or a watch tells.
func judge(err error) (State, failure) {
	f := failure{text: err.Error()}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		f.code = int(status.Status().Code)
	}
	switch f.code {
	case http.StatusForbidden:
		return Forbidden, f
	case http.StatusNotFound:
		return Missing, f
	}
	return Away, f
}
