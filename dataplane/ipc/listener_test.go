package ipc

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestListener asserts who may connect to a listener, that its descriptor works
// in other hands, and that nobody answers when the last one is closed.
func TestListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "rest.sock")
	if _, _, err := Dial(path); !errors.Is(err, ErrNobody) {
		t.Errorf("without a listener: %v", err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v: %v", info.Mode(), err)
	}
	near, who, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	if who.PID != os.Getpid() || who.UID != uint32(os.Getuid()) {
		t.Errorf("the other end is %+v", who)
	}
	far, who, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if who.PID != os.Getpid() || who.UID != uint32(os.Getuid()) {
		t.Errorf("who has connected is %+v", who)
	}
	if err := near.Send(KindBusy, Busy{PID: 7}); err != nil {
		t.Fatal(err)
	}
	m, err := far.Receive()
	if err != nil {
		t.Fatal(err)
	}
	var body Busy
	if err := m.Decode(KindBusy, &body, 0); err != nil || body.PID != 7 {
		t.Errorf("received %+v: %v", body, err)
	}
	l.Close()
	if _, _, err := l.Accept(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed listener: %v", err)
	}
	if _, _, err := Dial(path); !errors.Is(err, ErrNobody) {
		t.Errorf("after the listener was closed: %v", err)
	}
	if again, err := Listen(path); err != nil {
		t.Errorf("a socket that nobody listens on is not replaced: %v", err)
	} else {
		again.Close()
	}
}
