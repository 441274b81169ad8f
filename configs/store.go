package configs

import (
	"path"
	"strings"
)

// Store is where the desired state is kept, and what guards it: the [state]
// table. What is desired itself is Config.State.
type Store struct {
	Directory    string // absolute; empty: nothing outlives the process
	RemovalGuard int    // per cent of services, VIPs or backends that one change may remove; 100: all
}

// DefaultStateDirectory is where the desired state is kept unless the file says
// otherwise.
const DefaultStateDirectory = "/var/lib/fairlead"

// DefaultRemovalGuard is what one change may remove unless the file says
// otherwise, in per cent.
const DefaultRemovalGuard = 50

func (r *reader) store(t *table, s *Store) {
	s.Directory = t.text("directory", s.Directory)
	if s.Directory != "" && (!path.IsAbs(s.Directory) || path.Clean(s.Directory) != s.Directory || strings.ContainsRune(s.Directory, 0)) {
		t.refuse("directory", "%q is not a plain absolute path", s.Directory)
	}
	s.RemovalGuard = t.integer("removal_guard", s.RemovalGuard, 1, 100)
	t.finish()
}

// StateDirectory is the state directory that a file names, even when other parts
// of it are wrong; ok says that it could be found out.
func StateDirectory(data []byte) (directory string, ok bool) {
	document, err := decode(string(data))
	if err != nil {
		return "", false
	}
	r := &reader{}
	s := Default().Store
	r.store((&table{r: r, data: document}).sub("state", "[state]"), &s)
	if len(r.found) > 0 {
		return "", false
	}
	return s.Directory, true
}

// StateDirectoryOf is StateDirectory of a file; one that is not there names
// none.
func StateDirectoryOf(path string) (directory string, ok bool) {
	data, err := readFile(path)
	if err != nil {
		return "", false
	}
	return StateDirectory(data)
}
