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
// forwards: a recording names what the worker does, and no connection breaks. One
// that was made while others had the CPU may have no sample of the worker.
func TestProfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	s := w.addSite(nat4)
	w.serve()
	w.start()
	p := w.ping(20, s)
	p.await(1)
	want := []byte("fairlead/dataplane.(*Worker).Run")
	for !bytes.Contains(w.profile(), want) {
		if w.ctx.Err() != nil {
			t.Fatalf("no profile names %s", want)
		}
	}
	p.await(1)
	p.stop()
	w.balance()
}

// profile records for a second.
func (w *world) profile() []byte {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "profile.pb.gz")
	out, err := exec.CommandContext(w.ctx, w.node.Binary, "profile", "--socket", w.node.Socket, "--seconds", "1", "--output", file).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	recorded, err := os.ReadFile(file)
	w.must(err)
	plain, err := gzip.NewReader(bytes.NewReader(recorded))
	w.must(err)
	text, err := io.ReadAll(plain)
	w.must(err)
	return text
}
