package desired

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// failing is a file system that fails at everything that writes while err is
// not nil.
type failing struct {
	fileSystem
	err error
}

func (f *failing) fail(do func() error) error {
	if f.err != nil {
		return f.err
	}
	return do()
}

func (f *failing) MakeDir(dir string) error {
	return f.fail(func() error { return f.fileSystem.MakeDir(dir) })
}

func (f *failing) Write(name string, data []byte) error {
	return f.fail(func() error { return f.fileSystem.Write(name, data) })
}

func (f *failing) Rename(from, to string) error {
	return f.fail(func() error { return f.fileSystem.Rename(from, to) })
}

func (f *failing) Remove(name string) error {
	return f.fail(func() error { return f.fileSystem.Remove(name) })
}

func (f *failing) SyncDir(dir string) error {
	return f.fail(func() error { return f.fileSystem.SyncDir(dir) })
}

// crashed is what a crashing file system panics with.
type crashed struct{}

// crashing is a file system on a machine that loses power at a step. What was
// done to names and not yet synced is then there or not, each thing by itself,
// as POSIX allows; a file that is being written has any part of its content.
type crashing struct {
	names   map[string][]byte // as the running system sees them
	medium  map[string][]byte // as they are after a crash
	pending []nameChange      // of the medium, in order
	steps   int               // done so far
	crashAt int               // step at which the power goes; negative: never
	failAt  int               // step that fails, once; negative: none
}

// nameChange takes a name away, gives content to another, or both at once.
type nameChange struct {
	from, to string
	content  []byte
}

func newCrashing() *crashing {
	return &crashing{names: map[string][]byte{}, medium: map[string][]byte{}, crashAt: -1, failAt: -1}
}

// step counts a step; power fails in the middle of it, when it is its turn.
func (f *crashing) step(middle func()) error {
	n := f.steps
	f.steps++
	switch n {
	case f.crashAt:
		middle()
		panic(crashed{})
	case f.failAt:
		return fmt.Errorf("input/output error")
	}
	return nil
}

func (f *crashing) MakeDir(string) error { return nil }

func (f *crashing) List(dir string) ([]string, error) {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(f.names)) {
		if base, ok := strings.CutPrefix(name, dir+"/"); ok {
			out = append(out, base)
		}
	}
	return out, nil
}

func (f *crashing) Read(name string) ([]byte, error) {
	data, ok := f.names[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return data, nil
}

func (f *crashing) Write(name string, data []byte) error {
	part := nameChange{to: name, content: data[:len(data)/2]}
	if err := f.step(func() { f.pending = append(f.pending, part) }); err != nil {
		f.names[name] = part.content
		f.pending = append(f.pending, part)
		return err
	}
	f.names[name] = data
	f.pending = append(f.pending, nameChange{to: name, content: data})
	return nil
}

func (f *crashing) Rename(from, to string) error {
	c := nameChange{from, to, f.names[from]}
	if err := f.step(func() { f.pending = append(f.pending, c) }); err != nil {
		return err
	}
	if _, ok := f.names[from]; !ok {
		return fmt.Errorf("%s: %w", from, fs.ErrNotExist)
	}
	delete(f.names, from)
	f.names[to] = c.content
	f.pending = append(f.pending, c)
	return nil
}

func (f *crashing) Remove(name string) error {
	c := nameChange{from: name}
	if err := f.step(func() { f.pending = append(f.pending, c) }); err != nil {
		return err
	}
	if _, ok := f.names[name]; !ok {
		return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	delete(f.names, name)
	f.pending = append(f.pending, c)
	return nil
}

func (f *crashing) SyncDir(dir string) error {
	if err := f.step(func() {}); err != nil {
		return err
	}
	var left []nameChange
	for _, c := range f.pending {
		if strings.HasPrefix(c.from, dir+"/") || strings.HasPrefix(c.to, dir+"/") {
			c.apply(f.medium)
		} else {
			left = append(left, c)
		}
	}
	f.pending = left
	return nil
}

func (c *nameChange) apply(to map[string][]byte) {
	delete(to, c.from)
	if c.to != "" {
		to[c.to] = c.content
	}
}

// reboot is the file system after the crash.
func (f *crashing) reboot(r *rand.Rand) *crashing {
	after := newCrashing()
	after.names = maps.Clone(f.medium)
	for _, c := range f.pending {
		if r.IntN(2) == 0 {
			c.apply(after.names)
		}
	}
	after.medium = maps.Clone(after.names)
	return after
}
