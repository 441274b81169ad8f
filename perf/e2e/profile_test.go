package e2e

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestProfile has the data process record where it spends its CPU time while it
// forwards: the recording names what the worker does, and no connection breaks.
func TestProfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	s := w.addSite(nat4)
	w.serve()
	w.start()
	p := w.ping(20, s)
	p.await(1)
	file := filepath.Join(t.TempDir(), "profile.pb.gz")
	out, err := exec.Command(w.node.Binary, "profile", "--socket", w.node.Socket, "--seconds", "1", "--output", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.await(1)
	p.stop()
	recorded, err := os.ReadFile(file)
	w.must(err)
	plain, err := gzip.NewReader(bytes.NewReader(recorded))
	w.must(err)
	text, err := io.ReadAll(plain)
	w.must(err)
	if want := []byte("fairlead/dataplane.(*Worker).Run"); !bytes.Contains(text, want) {
		t.Errorf("the profile does not name %s", want)
	}
	w.balance()
}
