package desired

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// fileSystem is what is asked of the state directory's file system: the seam
// where tests put faults. Paths are relative to the state directory.
type fileSystem interface {
	MakeDir(dir string) error
	List(dir string) ([]string, error)
	Read(name string) ([]byte, error)
	// Write makes or replaces a file. When it returns, the content is on the
	// medium; the name may not be.
	Write(name string, data []byte) error
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir returns when the names in a folder are on the medium.
	SyncDir(dir string) error
}

// osFiles is a real folder.
type osFiles struct{ root string }

func (f osFiles) path(name string) string { return filepath.Join(f.root, name) }

// MakeDir makes the folder for the owner alone, and those above it for all.
func (f osFiles) MakeDir(dir string) error {
	if err := os.MkdirAll(f.root, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(f.path(dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (f osFiles) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(f.path(dir))
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

func (f osFiles) Read(name string) ([]byte, error) { return os.ReadFile(f.path(name)) }

func (f osFiles) Write(name string, data []byte) error {
	file, err := os.OpenFile(f.path(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (f osFiles) Rename(from, to string) error { return os.Rename(f.path(from), f.path(to)) }

func (f osFiles) Remove(name string) error { return os.Remove(f.path(name)) }

func (f osFiles) SyncDir(dir string) error {
	d, err := os.Open(f.path(dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// memoryFiles keeps everything in memory, for a node without a state directory:
// it has its history for as long as it lives.
type memoryFiles struct {
	mu    sync.Mutex
	files map[string][]byte
}

func newMemoryFiles() *memoryFiles { return &memoryFiles{files: make(map[string][]byte)} }

func (f *memoryFiles) MakeDir(string) error { return nil }

func (f *memoryFiles) List(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		if base, ok := strings.CutPrefix(name, dir+"/"); ok {
			names = append(names, base)
		}
	}
	return names, nil
}

func (f *memoryFiles) Read(name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.files[name]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
	}
	return data, nil
}

func (f *memoryFiles) Write(name string, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name] = data
	return nil
}

func (f *memoryFiles) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.files[from]
	if !ok {
		return fmt.Errorf("rename %s: %w", from, fs.ErrNotExist)
	}
	delete(f.files, from)
	f.files[to] = data
	return nil
}

func (f *memoryFiles) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.files[name]; !ok {
		return fmt.Errorf("remove %s: %w", name, fs.ErrNotExist)
	}
	delete(f.files, name)
	return nil
}

func (f *memoryFiles) SyncDir(string) error { return nil }
