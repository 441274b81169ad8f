package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// folder is what is asked of the file system: the seam where tests put faults.
type folder interface {
	List() ([]string, error)
	Read(name string) ([]byte, error)
	// Create makes or replaces a file to append to.
	Create(name string) (file, error)
	// Append opens a file to append to.
	Append(name string) (file, error)
	Rename(from, to string) error
	Remove(name string) error
	// Sync returns when the names are on the medium.
	Sync() error
	Close() error
}

type file interface {
	io.Writer // at the end
	Truncate(size int64) error
	Sync() error
	Close() error
}

// directory is a real folder, for this process alone.
type directory struct {
	root string
	lock *os.File
}

// lockPatience is how long a process waits for the one before it.
const lockPatience = 10 * time.Second

// openDirectory makes the folder, and waits for another process that has it.
func openDirectory(root string, patience time.Duration) (*directory, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(root, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return &directory{root, lock}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			if errors.Is(err, unix.EWOULDBLOCK) {
				err = errors.New("another process uses it")
			}
			return nil, errors.Join(fmt.Errorf("%s: %w", root, err), lock.Close())
		}
	}
}

func (d *directory) path(name string) string { return filepath.Join(d.root, name) }

func (d *directory) List() ([]string, error) {
	entries, err := os.ReadDir(d.root)
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (d *directory) Read(name string) ([]byte, error) { return os.ReadFile(d.path(name)) }

func (d *directory) Create(name string) (file, error) {
	return d.open(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND)
}

func (d *directory) Append(name string) (file, error) {
	return d.open(name, os.O_WRONLY|os.O_APPEND)
}

func (d *directory) open(name string, flags int) (file, error) {
	f, err := os.OpenFile(d.path(name), flags, 0o600)
	if err != nil {
		return nil, err // not a nil *os.File in a file
	}
	return f, nil
}

func (d *directory) Rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }

func (d *directory) Remove(name string) error { return os.Remove(d.path(name)) }

func (d *directory) Sync() error {
	dir, err := os.Open(d.root)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (d *directory) Close() error { return d.lock.Close() }

// nowhere keeps nothing: a store without a directory.
type nowhere struct{}

func (nowhere) List() ([]string, error)          { return nil, nil }
func (nowhere) Read(name string) ([]byte, error) { return nil, fs.ErrNotExist }
func (nowhere) Create(string) (file, error)      { return nothing{}, nil }
func (nowhere) Append(string) (file, error)      { return nothing{}, nil }
func (nowhere) Rename(string, string) error      { return nil }
func (nowhere) Remove(string) error              { return nil }
func (nowhere) Sync() error                      { return nil }
func (nowhere) Close() error                     { return nil }

type nothing struct{}

func (nothing) Write(b []byte) (int, error) { return len(b), nil }
func (nothing) Truncate(int64) error        { return nil }
func (nothing) Sync() error                 { return nil }
func (nothing) Close() error                { return nil }
