package peer

import (
	"sync"
	"time"
)

const (
	sayEvery = time.Minute
	maxSaid  = 1024
)

// said keeps a log from being filled by what others do.
type said struct {
	mu sync.Mutex
	at map[string]time.Time
}

// often is true when the same has been said a short time ago, or when too much
// is said altogether.
func (s *said) often(what string, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := s.at[what]; ok && at.Sub(last) < sayEvery {
		return true
	}
	if s.at == nil {
		s.at = map[string]time.Time{}
	}
	if len(s.at) >= maxSaid {
		for k, last := range s.at {
			if at.Sub(last) >= sayEvery {
				delete(s.at, k)
			}
		}
		if len(s.at) >= maxSaid {
			return true
		}
	}
	s.at[what] = at
	return false
}
