package traffic

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
)

// patternChunk is how many bytes are made, sent and compared at a time.
const patternChunk = 64 << 10

// pattern is an endless deterministic stream of bytes. It never repeats, so a
// lost, doubled or swapped segment always shows.
type pattern struct{ source *rand.ChaCha8 }

func newPattern(seed uint64) *pattern {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return &pattern{source: rand.NewChaCha8(key)}
}

// fill writes the next bytes of the stream.
func (p *pattern) fill(b []byte) {
	// ChaCha8.Read always fills all of b and never fails.
	_, _ = p.source.Read(b)
}

// DifferenceError says where received bytes stop being the right ones.
type DifferenceError struct {
	// Offset is of the first wrong byte.
	Offset    int64
	Got, Want byte
}

func (e *DifferenceError) Error() string {
	return fmt.Sprintf("byte %d is 0x%02x, not 0x%02x", e.Offset, e.Got, e.Want)
}

// LengthError says that too few or too many bytes came.
type LengthError struct {
	// Got counts bytes up to and including the first surplus one.
	Got, Want int64
}

func (e *LengthError) Error() string {
	if e.Got > e.Want {
		return fmt.Sprintf("more than the %d bytes expected", e.Want)
	}
	return fmt.Sprintf("%d bytes instead of %d", e.Got, e.Want)
}

// firstDifference compares bytes that begin at an offset of their stream; nil
// means that they are the same.
func firstDifference(got, want []byte, offset int64) error {
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return &DifferenceError{Offset: offset + int64(i), Got: got[i], Want: want[i]}
		}
	}
	return &LengthError{Got: offset + int64(len(got)), Want: offset + int64(len(want))}
}

// sendPattern writes the first n bytes of a stream.
func sendPattern(w io.Writer, seed uint64, n int64) error {
	p, buf := newPattern(seed), make([]byte, patternChunk)
	for sent := int64(0); sent < n; {
		b := buf[:min(n-sent, patternChunk)]
		p.fill(b)
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", sent, n, err)
		}
		sent += int64(len(b))
	}
	return nil
}

// checkPattern reads to the end and demands that it is the first n bytes of a
// stream.
func checkPattern(r io.Reader, seed uint64, n int64) error {
	p, buf, want := newPattern(seed), make([]byte, patternChunk), make([]byte, patternChunk)
	for received := int64(0); received < n; {
		size := min(n-received, patternChunk)
		got, err := io.ReadFull(r, buf[:size])
		p.fill(want[:size])
		if diff := firstDifference(buf[:got], want[:got], received); diff != nil {
			return diff
		}
		received += int64(got)
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return &LengthError{Got: received, Want: n}
		case err != nil:
			return fmt.Errorf("after %d of %d bytes: %w", received, n, err)
		}
	}
	switch _, err := io.ReadFull(r, buf[:1]); err {
	case io.EOF:
		return nil
	case nil:
		return &LengthError{Got: n + 1, Want: n}
	default:
		return fmt.Errorf("after all of %d bytes: %w", n, err)
	}
}
