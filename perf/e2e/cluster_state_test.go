package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/controlplane/api"
)

// TestClusterStateDamaged damages what a dead node has on disk of what all share,
// and fills the disk of another: the one takes it from the others, and the other
// refuses changes until there is space.
func TestClusterStateDamaged(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	w.must(w.Kill(w.ctx, 2))
	w.untilSaid(1, []string{"a member of the cluster is dead", "node=lb3"}, 0)
	w.must(damage(filepath.Join(w.StateDirectory(2), "cluster", "store")))
	_, err := w.send(w.ctx, 0, sharedText(w.Rack, 2), nil)
	w.must(err)
	w.must(w.Nodes[2].Launch(w.ctx))
	w.untilSaid(1, []string{"a file of the shared state is damaged: what it had is taken from other nodes", "aside=damaged."}, 2)
	w.serves("s1 s2", 0, 1, 2)
	w.through(2, 2)

	disk := filepath.Join(w.StateDirectory(1), "cluster", "store")
	w.must(w.Nodes[1].Stop())
	w.must(unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"))
	t.Cleanup(func() { w.must(unix.Unmount(disk, unix.MNT_DETACH)) })
	w.must(w.Nodes[1].Launch(w.ctx))
	w.serves("s1 s2", 1)
	filler := filepath.Join(disk, "filler")
	w.must(fill(filler))
	const want = "the shared state cannot be stored"
	for i := 0; ; i++ { // the last page of a file has room for a few
		err := w.drainBackend(w.ctx, 1, i%2 == 0)
		if err != nil && strings.Contains(err.Error(), want) && strings.HasSuffix(err.Error(), "no space left on device") {
			break
		}
		if i == 50 || err != nil {
			t.Fatalf("change %d on a full disk: %v, want %s", i, err, want)
		}
	}
	w.must(w.drainBackend(w.ctx, 0, true)) // another node's change is taken
	w.settings(1, 0, 1, 2)
	w.must(os.Remove(filler))
	w.untilSaid(1, []string{"the shared state can be stored again"}, 1)
	w.must(w.drainBackend(w.ctx, 1, false))
	w.settings(0, 0, 1, 2)
	w.must(w.Kill(w.ctx, 1))
	w.must(w.Nodes[1].Launch(w.ctx))
	w.serves("s1 s2", 1)
}

// drainBackend drains a backend on node i, or enables it again.
func (w *clusterWorld) drainBackend(ctx context.Context, i int, drain bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	state := "enabled"
	if drain {
		state = "drained"
	}
	return w.Nodes[i].Client().Call(ctx, http.MethodPost, "/v1/backend-settings", nil, api.SetBackend{Pool: "s1", Backend: "b1", State: state}, nil)
}

// damage changes a bit in the middle of each file of a folder.
func damage(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.0*"))
	if err != nil {
		return err
	}
	done := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			continue
		}
		data[len(data)/2] ^= 0x10
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return err
		}
		done++
	}
	if done == 0 {
		return fmt.Errorf("%s: there is nothing to damage", dir)
	}
	return nil
}

// fill writes to a file until its disk is full.
func fill(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
