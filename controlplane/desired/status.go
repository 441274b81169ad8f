package desired

import (
	"fmt"
	"strings"
	"time"
)

// ConditionType names what an operator should know of the desired state.
type ConditionType string

// The conditions.
const (
	FileRefused    ConditionType = "file_refused"    // the configuration file, as it is on disk, is not in force because it is wrong
	FileOverruled  ConditionType = "file_overruled"  // it is not in force because of a rollback
	NotStored      ConditionType = "not_stored"      // the state directory is not up to date
	Damaged        ConditionType = "state_damaged"   // a version on disk could not be used at the start
	RollbackFailed ConditionType = "rollback_failed" // a change that was not confirmed is still in force
	LiveNotStored  ConditionType = "live_not_stored" // what live sources want is in force and not on disk
)

// Condition is one such thing that is so.
type Condition struct {
	Type    ConditionType
	Since   time.Time
	Message string
}

// Status is how the desired state is. It is never changed.
type Status struct {
	Version    uint64 // 0: none yet
	Time       time.Time
	Author     Author
	Pending    *Pending // nil: no change waits to be confirmed
	Conditions []Condition
}

// Status tells the present state of affairs, without waiting for a change that
// is being made.
func (s *Store) Status() *Status { return s.status.Load() }

// report makes the status what it is now.
func (s *Store) report() {
	st := &Status{}
	if s.current != nil {
		v := s.current.version
		st.Version, st.Time, st.Author, st.Pending = v.Number, v.Time, v.Author, v.Pending
		if file, ok := v.Sources[SourceFile]; ok && file.Said != file.Digest {
			s.why.set(FileOverruled, fmt.Sprintf("version %d does not have what the configuration file said when it was last read; `fairlead config reload` puts the file in force", v.Number))
		} else {
			s.why.clear(FileOverruled)
		}
	}
	st.Conditions = append(st.Conditions, s.why.list...)
	s.status.Store(st)
}

// RefuseFile says that the configuration file could not even be read.
func (s *Store) RefuseFile(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fileDeclared(err)
}

// fileDeclared notes how the last attempt to put the file in force ended.
func (s *Store) fileDeclared(err error) {
	if err == nil {
		s.why.clear(FileRefused)
	} else {
		s.why.set(FileRefused, "the configuration file was read again and refused: "+firstLine(err))
	}
	s.report()
}

// firstLine is the first line of an error's text, and how many follow.
func firstLine(err error) string {
	text := err.Error()
	line, rest, more := strings.Cut(text, "\n")
	if more {
		line += fmt.Sprintf(" (and %d more)", 1+strings.Count(rest, "\n"))
	}
	return line
}

// conditions are those that are so, oldest first.
type conditions struct {
	now  func() time.Time
	list []Condition
}

func (c *conditions) set(typ ConditionType, message string) {
	for i := range c.list {
		if c.list[i].Type == typ {
			list := append([]Condition(nil), c.list...) // the status has the old one
			list[i].Message = message
			c.list = list
			return
		}
	}
	c.list = append(c.list[:len(c.list):len(c.list)], Condition{typ, c.now().UTC().Round(0), message})
}

func (c *conditions) clear(typ ConditionType) (was bool) {
	var list []Condition
	for _, one := range c.list {
		if one.Type == typ {
			was = true
			continue
		}
		list = append(list, one)
	}
	c.list = list
	return was
}
