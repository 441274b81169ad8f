package fib

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Images are two images of one layout that take turns: one is in force and
// immutable, the other rests until the next patch makes it the successor. The
// writer keeps both in memfds, mapped writable here and nowhere else; readers
// map the memfds read-only. The writer sees to it that no reader uses the
// resting image when it patches it.
//
//	Patch    the resting image becomes the candidate: what is in force, patched
//	Commit   the candidate is in force; what was in force rests
//	Abandon  the candidate is given up and rests; what was in force stays so
type Images struct {
	images    [2]memoryImage
	force     int       // which is in force
	candidate *Snapshot // of the other one, between Patch and Commit or Abandon
	written   []Range   // by the patch that made the candidate
}

// memoryImage is one of the two.
type memoryImage struct {
	fd       int
	memory   []byte    // writable; nil when there is none
	snapshot *Snapshot // as of when it was last verified
	behind   []Range   // where it may differ from the one in force, beyond the generation
}

// NewImages encodes a builder into the image that is in force, with the
// builder's spare room. There is no second one yet (Double).
func NewImages(b *Builder, generation uint64) (*Images, error) {
	p, err := b.plan(true)
	if err != nil {
		return nil, err
	}
	m := &Images{}
	m.images[0].fd, m.images[1].fd = -1, -1
	if err := m.images[0].create(int(p.size)); err != nil {
		return nil, err
	}
	if m.images[0].snapshot, err = p.write(m.images[0].memory, generation); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if err := m.images[0].seal(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (i *memoryImage) create(size int) (err error) {
	i.fd, i.memory, err = newMemfd(size)
	return err
}

// seal makes the mapping that exists the last that can be written.
func (i *memoryImage) seal() error {
	if _, err := unix.FcntlInt(uintptr(i.fd), unix.F_ADD_SEALS, takeover); err != nil {
		return fmt.Errorf("fib: seal a memfd: %w", err)
	}
	return nil
}

func (i *memoryImage) close() error {
	if i.memory == nil {
		return nil
	}
	err := errors.Join(unix.Munmap(i.memory), unix.Close(i.fd))
	*i = memoryImage{fd: -1}
	return err
}

// Double makes the second image, a copy of the one in force, unless there is
// one.
func (m *Images) Double() error {
	rest, force := m.resting(), &m.images[m.force]
	if rest.memory != nil {
		return nil
	}
	if err := rest.create(len(force.memory)); err != nil {
		return err
	}
	h := headerAt(force.memory)
	copy(rest.memory[:headerSize], force.memory)
	for i := range h.Section {
		e := &h.Section[i] // what lies between sections is spare, and stays untouched
		copy(rest.memory[e.Offset:], force.memory[e.Offset:e.Offset+e.Count*sectionInfo[i].size])
	}
	err := rest.seal()
	if err == nil {
		rest.snapshot, err = open(rest.memory)
	}
	if err != nil {
		return errors.Join(err, rest.close())
	}
	return nil
}

func (m *Images) resting() *memoryImage { return &m.images[1-m.force] }

// Snapshot is of the image in force.
func (m *Images) Snapshot() *Snapshot { return m.images[m.force].snapshot }

// Candidate is of the resting image between Patch and Commit or Abandon, nil at
// any other time.
func (m *Images) Candidate() *Snapshot { return m.candidate }

// FD is the descriptor of the image in force; it stays that of Images.
func (m *Images) FD() int { return m.images[m.force].fd }

// RestingFD is the descriptor of the image that rests, -1 when there is none.
func (m *Images) RestingFD() int { return m.resting().fd }

// Size is how many bytes the memory of each image spans, spare room included.
func (m *Images) Size() int { return len(m.images[m.force].memory) }

// Patch makes the resting image the candidate for the next generation and
// returns where it may differ from what its readers last saw in it. The error
// is ErrNoRoom when a full image has to be made, and wraps ErrImage when the
// patch is wrong; either way everything stays as it was.
func (m *Images) Patch(p *Patch, generation uint64) ([]Range, error) {
	rest, force := m.resting(), &m.images[m.force]
	if rest.memory == nil {
		return nil, fmt.Errorf("%w: there is no second one", ErrNoRoom)
	}
	if m.candidate != nil {
		return nil, errors.New("fib: a patch is neither committed nor abandoned")
	}
	h := headerAt(force.memory)
	if err := p.fits(h); err != nil {
		return nil, err
	}
	m.catchUp()
	m.written = p.write(rest.memory, generation)
	rest.behind = mergeAll(append(rest.behind, m.written...))
	s, err := OpenPatched(rest.memory, force.snapshot, rest.behind)
	if err != nil {
		m.catchUp()
		return nil, err
	}
	m.candidate = s
	return rest.behind, nil
}

// catchUp makes the resting image equal to the one in force.
func (m *Images) catchUp() {
	rest, force := m.resting(), &m.images[m.force]
	h := headerAt(force.memory)
	copy(rest.memory[:headerSize], force.memory)
	for _, r := range rest.behind {
		size := sectionInfo[r.Section].size
		first := h.Section[r.Section].Offset + uint64(r.First)*size
		copy(rest.memory[first:first+uint64(r.Count)*size], force.memory[first:])
	}
}

// Commit puts the candidate in force: every reader uses it. It is false when
// there is none.
func (m *Images) Commit() bool {
	if m.candidate == nil {
		return false
	}
	m.images[m.force].behind = m.written
	m.force = 1 - m.force
	m.images[m.force].snapshot, m.images[m.force].behind = m.candidate, nil
	m.candidate, m.written = nil, nil
	return true
}

// Abandon gives the candidate up. Where it was written it counts as behind, so
// that readers who have seen it look there again.
func (m *Images) Abandon() {
	if m.candidate != nil {
		m.candidate, m.written = nil, nil
		m.catchUp()
	}
}

// Close unmaps both images and closes their descriptors. Readers keep theirs.
func (m *Images) Close() error {
	return errors.Join(m.images[0].close(), m.images[1].close())
}

// mergeAll merges ranges of all sections.
func mergeAll(ranges []Range) []Range {
	var by [sectionCount][]Range
	for _, r := range ranges {
		by[r.Section] = append(by[r.Section], r)
	}
	out := ranges[:0:0]
	for s := range by {
		out = append(out, merge(by[s])...)
	}
	return out
}
