package steer

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
)

// TestInject has made frames meet the program as received ones do: those for a
// local reach the socket of queue 0, others do not.
func TestInject(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "in0", 1500, 1)
	s, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Inject(p.ifindex(), make([]byte, 60), 1); !errors.Is(err, ErrNotAttached) {
		t.Errorf("without a program: %v", err)
	}
	if _, err := s.Attach(p.ifindex(), p.name(), ModeAuto); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.SetLocals([]Local{{Addr: netip.MustParseAddr("192.0.2.1"), Kind: VIP}}); err != nil {
		t.Fatal(err)
	}
	sock := newTestSocket(t, p, 0)
	setSocket(t, s, p, 0, sock)

	frame := make([]byte, 60)
	copy(frame[12:], []byte{0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17})
	copy(frame[26:], []byte{198, 18, 0, 1, 192, 0, 2, 1})
	other := bytes.Clone(frame)
	other[33] = 2
	for _, f := range [][]byte{other, frame} {
		if err := s.Inject(p.ifindex(), f, 3); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if got := sock.received(); !bytes.Equal(got, frame) {
			t.Errorf("received %x, want %x", got, frame)
		}
	}
	if got := sock.received(); got != nil {
		t.Errorf("one too many: %x", got)
	}
}
