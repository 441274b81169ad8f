package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRecordProfile records for a second, and finds the worker in what comes out.
func TestRecordProfile(t *testing.T) {
	k := newTestKit(t, []contestant{fairleadBy("l2")})
	file := filepath.Join(t.TempDir(), "profile.pb.gz")
	c := Case{Arms: 2, Protocol: udp, Size: 60, Flows: 100}
	var out strings.Builder
	if err := k.recordProfile(t.Context(), "l2", c, 1, file, "make profile METHOD=l2", &out); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.HasPrefix(text, "make profile METHOD=l2\n") || !strings.Contains(text, "fairlead-l2: two-arm, udp, 60 bytes, 100 flows, ") {
		t.Errorf("it says:\n%s", text)
	}
	recorded, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := gzip.NewReader(bytes.NewReader(recorded))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	if want := "fairlead/dataplane.(*Worker).Step"; !bytes.Contains(text, []byte(want)) {
		t.Errorf("the profile does not name %s", want)
	}
	err = k.recordProfile(t.Context(), "ftp", c, 1, file, "", &out)
	if err == nil || err.Error() != `there is no method "ftp" to profile` {
		t.Errorf("an unknown method: %v", err)
	}
}
