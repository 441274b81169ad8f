package store

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

var (
	errNoSpace  = errors.New("no space left on device")
	errNoDevice = errors.New("input/output error")
)

// media is a folder on a disk that fails as a test wants, and that forgets in a
// power cut what was not synced.
type media struct {
	mu     sync.Mutex
	names  map[string]*content
	medium map[string]*content // the names as they are after a power cut
	done   []func(map[string]*content)

	space    int  // bytes that may still be written; negative: no limit
	failSync bool // Sync of files fails
	steps    int  // that change something
	dieAt    int  // the step from which on nothing works; 0: none
}

type content struct {
	data   []byte
	synced int // bytes that are on the medium
}

func newMedia() *media {
	return &media{names: map[string]*content{}, medium: map[string]*content{}, space: -1}
}

// step counts what changes something.
func (m *media) step() error {
	if m.steps++; m.dieAt > 0 && m.steps >= m.dieAt {
		return errNoDevice
	}
	return nil
}

// rename changes names now, and on the medium when they are synced.
func (m *media) change(f func(map[string]*content)) {
	f(m.names)
	m.done = append(m.done, f)
}

func (m *media) List() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.names)), nil
}

func (m *media) Read(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.names[name]
	if c == nil {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return slices.Clone(c.data), nil
}

func (m *media) Create(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step(); err != nil {
		return nil, err
	}
	c := &content{}
	m.change(func(names map[string]*content) { names[name] = c })
	return &handle{m, c}, nil
}

func (m *media) Append(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names[name] == nil {
		return nil, fs.ErrNotExist
	}
	return &handle{m, m.names[name]}, nil
}

func (m *media) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step(); err != nil {
		return err
	}
	c := m.names[from]
	m.change(func(names map[string]*content) {
		delete(names, from)
		names[to] = c
	})
	return nil
}

func (m *media) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step(); err != nil {
		return err
	}
	m.change(func(names map[string]*content) { delete(names, name) })
	return nil
}

func (m *media) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step(); err != nil {
		return err
	}
	m.medium, m.done = maps.Clone(m.names), nil
	return nil
}

func (m *media) Close() error { return nil }

// cut is the disk after a power cut: of the names that were not synced any were
// changed, and of the bytes any number is there.
func (m *media) cut(r *rand.Rand) *media {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := maps.Clone(m.medium)
	for _, f := range m.done {
		if r.IntN(2) == 0 {
			f(names)
		}
	}
	after := newMedia()
	for name, c := range names {
		if c == nil {
			continue
		}
		n := c.synced + r.IntN(len(c.data)-c.synced+1)
		data := slices.Clone(c.data[:n])
		if n > c.synced && r.IntN(4) == 0 {
			data[c.synced+r.IntN(n-c.synced)] ^= 1
		}
		after.names[name] = &content{data, n}
	}
	after.medium = maps.Clone(after.names)
	return after
}

type handle struct {
	media *media
	*content
}

func (h *handle) Write(b []byte) (int, error) {
	h.media.mu.Lock()
	defer h.media.mu.Unlock()
	n, err := len(b), h.media.step()
	if err != nil {
		n /= 2
	} else if h.media.space >= 0 {
		if n > h.media.space {
			n, err = h.media.space, errNoSpace
		}
		h.media.space -= n
	}
	h.data = append(h.data, b[:n]...)
	return n, err
}

func (h *handle) Truncate(size int64) error {
	h.media.mu.Lock()
	defer h.media.mu.Unlock()
	if err := h.media.step(); err != nil {
		return err
	}
	h.data = slices.Clone(h.data[:size])
	h.synced = min(h.synced, int(size))
	return nil
}

func (h *handle) Sync() error {
	h.media.mu.Lock()
	defer h.media.mu.Unlock()
	if err := h.media.step(); err != nil {
		return err
	}
	if h.media.failSync {
		return errNoDevice
	}
	h.synced = len(h.data)
	return nil
}

func (h *handle) Close() error { return nil }

func (m *media) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}
