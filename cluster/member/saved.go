package member

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// savedFile is where a node remembers what it needs to find the others again.
const savedFile = "members.json"

// savedState is what is in the file.
type savedState struct {
	Format int           `json:"format"`
	Epoch  uint64        `json:"epoch"` // of the last process
	Nodes  []savedMember `json:"nodes"` // others that have not left
}

// savedMember is where a member takes streams.
type savedMember struct {
	Name   string         `json:"name"`
	Stream netip.AddrPort `json:"stream"`
}

// saved is a node's memory of the others.
type saved struct {
	file string // "": nowhere
	log  *slog.Logger

	mu     sync.Mutex
	state  savedState
	before []savedMember // known before the start, and not met since
	opened time.Time
	failed bool // the last write has
}

// openSaved reads the memory, and counts a process. A file that cannot be read is
// put aside: the seeds lead to the others as well.
func openSaved(dir string, now func() time.Time, log *slog.Logger) (*saved, error) {
	s := &saved{log: log, state: savedState{Format: 1}, opened: time.Now()}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("directory of the cluster: %w", err)
		}
		s.file = filepath.Join(dir, savedFile)
		var read savedState
		switch found, err := readJSON(s.file, &read, log); {
		case err != nil:
			return nil, err
		case found:
			s.state = read
		}
	}
	s.before = s.state.Nodes[:min(len(s.state.Nodes), maxRecords)]
	// The clock may jump, and the file may be lost: either alone makes the epoch
	// no smaller.
	s.state.Epoch = max(s.state.Epoch+1, uint64(max(now().UnixMilli(), 0)))
	if err := s.write(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *saved) epoch() uint64 { return s.state.Epoch }

// notMet are those that were known before the start and have not been met since.
func (s *saved) notMet() []savedMember {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.before)
}

// remember keeps the members that there are, and those that have not been met yet.
// left are those that are not to be looked for. When writing fails, it is tried
// again with the next call.
func (s *saved) remember(nodes []savedMember, left func(name string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = slices.DeleteFunc(s.before, func(b savedMember) bool {
		return left(b.Name) || time.Since(s.opened) > rememberDead || slices.ContainsFunc(nodes, func(n savedMember) bool { return n.Name == b.Name })
	})
	nodes = append(nodes, s.before...)
	if slices.Equal(nodes, s.state.Nodes) && !s.failed {
		return
	}
	s.state.Nodes = nodes
	err := s.write()
	if err != nil && !s.failed {
		s.log.Error("the members of the cluster are not remembered; after a restart, the seeds alone lead to them", "error", err)
	}
	s.failed = err != nil
}

func (s *saved) write() error {
	if s.file == "" {
		return nil
	}
	return writeJSON(s.file, &s.state)
}

// maxStateFile is the longest file that is read, in bytes.
const maxStateFile = 4 << 20

// readJSON reads a file of this package; found is false when it is not there, or
// was damaged and has been put aside.
func readJSON(file string, into any, log *slog.Logger) (found bool, err error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var data []byte
	reason := fmt.Errorf("%d bytes are too many", info.Size())
	if info.Size() <= maxStateFile {
		if data, err = os.ReadFile(file); err != nil {
			return false, err
		}
		reason = json.Unmarshal(data, into)
	}
	if reason == nil {
		return true, nil
	}
	aside := file + ".damaged"
	if err := os.Rename(file, aside); err != nil {
		return false, fmt.Errorf("%s is damaged (%w), and cannot be put aside: %w", file, reason, err)
	}
	log.Error("a damaged file of the cluster is put aside; what it had comes from the other nodes", "file", file, "aside", aside, "error", reason)
	return false, nil
}

// writeJSON replaces a file as a whole: after a crash there is the old one or the
// new one. Nobody but its owner may read it.
func writeJSON(file string, from any) error {
	data, err := json.MarshalIndent(from, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(file)
	next, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = next.Write(append(data, '\n'))
	if err == nil {
		err = next.Sync()
	}
	err = errors.Join(err, next.Close())
	if err == nil {
		err = os.Rename(next.Name(), file)
	}
	if err != nil {
		os.Remove(next.Name()) // it has not become the file
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
