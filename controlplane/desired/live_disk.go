package desired

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"fairlead/controlplane/model"
)

// liveDir has one file for each live source.
const liveDir = "live"

// How long a change of live sources waits to be written, so that many cost one
// file, and how long it may take until another is begun.
const (
	liveSettles = time.Second
	liveEvery   = 5 * time.Second
)

// liveFormat is the version of the file's format.
const liveFormat = 1

// liveFile is what is kept of a live source.
type liveFile struct {
	Format int             `json:"format"`
	Source string          `json:"source"`
	Sum    string          `json:"sha256"` // of Groups, in hexadecimal digits
	Groups json.RawMessage `json:"groups"` // []model.Group
}

// liveKept is what of live sources is on disk.
type liveKept struct {
	restored *live     // that a process before has left; nil: nothing
	since    time.Time // of the first change that is not on disk; the zero time: all is
	last     time.Time // when something was written, or was tried to be
}

func (k *liveKept) changed(now time.Time) {
	if k.since.IsZero() {
		k.since = now
	}
}

// loadLive takes over what live sources wanted last.
func (s *Store) loadLive() {
	names, err := s.disk.fs.List(liveDir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.cfg.Log.Warn("state directory: what live sources have left cannot be read", "directory", s.cfg.Directory, "error", err)
		}
		return
	}
	restored := &live{waiting: map[liveKey]waiting{}}
	for _, name := range names {
		source, ok := strings.CutSuffix(name, ".json")
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		if !slices.Contains(s.cfg.Live, source) {
			if err := s.disk.fs.Remove(liveDir + "/" + name); err != nil {
				s.cfg.Log.Warn("state directory: what a source has left that is none any more cannot be removed", "source", source, "error", err)
			}
			continue
		}
		groups, err := s.readLive(source, name)
		if err != nil {
			where, asideErr := s.disk.setAside(liveDir, name)
			s.cfg.Log.Error("state directory: what a source wanted last cannot be used", "directory", s.cfg.Directory, "source", source, "error", err, "aside", where, "aside_error", asideErr)
			s.why.set(Damaged, fmt.Sprintf("%s/%s: %v", liveDir, name, err))
			continue
		}
		for i := range groups {
			restored.waiting[liveKey{source, groups[i].Name}] = waiting{&groups[i], errNotYet}
		}
	}
	if len(restored.waiting) == 0 {
		return
	}
	s.liveKept.restored = restored
	if s.current != nil {
		s.current.live = restored
		if err := s.current.refit(true); err != nil {
			s.cfg.Log.Error("what live sources wanted last cannot be put in force", "error", err)
			s.current.live, s.current.total = nil, nil
		}
	}
}

func (s *Store) readLive(source, name string) ([]model.Group, error) {
	data, err := s.disk.fs.Read(liveDir + "/" + name)
	if err != nil {
		return nil, err
	}
	var file liveFile
	var groups []model.Group
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	switch sum := sha256.Sum256(file.Groups); {
	case file.Format != liveFormat:
		return nil, fmt.Errorf("its format is %d; this release reads %d", file.Format, liveFormat)
	case file.Source != source:
		return nil, fmt.Errorf("it is of source %q", file.Source)
	case file.Sum != hex.EncodeToString(sum[:]):
		return nil, errors.New("it is not what was written")
	}
	if err := json.Unmarshal(file.Groups, &groups); err != nil {
		return nil, err
	}
	return groups, nil
}

// keepLive writes what live sources want, when that is due. A change is in force
// before it is written: what is on disk is for a restart while the source is away.
func (s *Store) keepLive(now bool) {
	s.mu.Lock()
	k, at := &s.liveKept, s.cfg.Now()
	if s.current == nil || k.since.IsZero() || !now && (at.Sub(k.since) < liveSettles || at.Sub(k.last) < liveEvery) {
		s.mu.Unlock()
		return
	}
	k.last, k.since = at, time.Time{}
	wanted := s.current.alive()
	s.mu.Unlock()

	of := map[string][]*model.Group{}
	for _, g := range wanted.newest() {
		of[g.key.source] = append(of[g.key.source], g.Group)
	}
	var err error
	for _, source := range s.cfg.Live {
		err = errors.Join(err, s.writeLive(source, of[source]))
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		k.changed(at)
		s.why.set(LiveNotStored, fmt.Sprintf("what live sources want cannot be written to the state directory: %v", err))
		s.report()
	} else if s.why.clear(LiveNotStored) {
		s.report()
	}
}

// newest are the groups as their sources want them, whether they are in force or
// not.
func (l *live) newest() []*liveGroup {
	groups := l.all()
	for i, g := range groups {
		if w, waits := l.waiting[g.key]; waits {
			groups[i] = &liveGroup{g.key, w.group}
		}
	}
	return groups
}

func (s *Store) writeLive(source string, groups []*model.Group) error {
	content, err := json.Marshal(groups)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	data, err := json.Marshal(liveFile{liveFormat, source, hex.EncodeToString(sum[:]), content})
	if err != nil {
		return err
	}
	if err := s.disk.fs.MakeDir(liveDir); err != nil {
		return err
	}
	return s.disk.put(liveDir, source+".json", data)
}
