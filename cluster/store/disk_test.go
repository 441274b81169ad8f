package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPowerCut: at whatever step the power goes, what Put has said is stored is
// there afterwards, and nothing that was not asked for.
func TestPowerCut(t *testing.T) {
	cuts := 0
	for dieAt := 1; dieAt < 140; dieAt++ {
		t.Run(fmt.Sprint(dieAt), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(dieAt), 9))
			m := newMedia()
			m.dieAt = dieAt
			r := newRig(t, func(c *Config) { c.folder, c.leastLog = m, 6000 }, "a")
			a := r.nodes["a"]
			kept, tried := map[string]string{}, map[string]map[string]bool{}
			failed := false
			for i := range 60 {
				key, value := fmt.Sprintf("setting/%d", random.IntN(5)), fmt.Sprint(i)
				if tried[key] == nil {
					tried[key] = map[string]bool{"-": kept[key] == "", kept[key]: true}
				}
				var err error
				if random.IntN(4) == 0 {
					value, err = "-", a.Delete(key)
				} else {
					err = a.Put(key, []byte(value))
				}
				if err != nil {
					failed = true
					tried[key][value] = true
					if !errors.Is(err, ErrNotStored) || !errors.Is(err, errNoDevice) {
						t.Fatal(err)
					}
					if get(a, key) == value && value != "-" {
						t.Fatal("what was refused is in force")
					}
					continue
				}
				kept[key], tried[key] = value, map[string]bool{value: true}
			}
			if failed {
				cuts++
			}
			a.Close()
			m = m.cut(random)
			a = r.open("a")
			for key, values := range tried {
				if got := get(a, key); !values[got] {
					t.Errorf("%s is %s: it was stored as %s", key, got, kept[key])
				}
			}
			put(t, a, "setting/after", "1")
			a.Close()
			if a = r.open("a"); get(a, "setting/after") != "1" {
				t.Error("what was put after the power cut is not there")
			}
			if t.Failed() {
				t.Log(r.log)
			}
		})
	}
	if cuts < 100 {
		t.Fatalf("only %d runs had the power cut in them", cuts)
	}
}

// TestDiskFull: writes are refused and say why, what others write is still taken,
// and all is well when there is space again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	m := newMedia()
	r := newRig(t, func(c *Config) {
		if c.Identity.Name() == "a" {
			c.folder = m
		}
	}, "a", "b")
	a, b := r.nodes["a"], r.nodes["b"]
	put(t, a, "setting/x", "1")
	r.same()
	m.set(func() { m.space = 30 })
	err := a.Put("setting/x", []byte("2"))
	if want := `the shared state cannot be stored, so that "setting/x" was not changed: no space left on device`; err == nil || err.Error() != want {
		t.Fatalf("error %v, want %s", err, want)
	}
	if err := a.Delete("setting/x"); !errors.Is(err, ErrNotStored) || get(a, "setting/x") != "1" {
		t.Fatalf("error %v, and it is %s", err, get(a, "setting/x"))
	}
	if a.Stats().Unstored == nil || !strings.Contains(r.log.String(), "the shared state cannot be stored: changes on this node are refused until it can") {
		t.Fatalf("it is not said: %s", r.log)
	}
	put(t, a, "live/a/x", "1") // no disk is needed for that
	has(t, b, "live/a/x", "1")
	put(t, b, "setting/y", "1")
	has(t, a, "setting/y", "1")
	m.set(func() { m.space = -1 })
	eventually(t, "it can be stored again", func() bool { return a.Stats().Unstored == nil })
	put(t, a, "setting/x", "3")
	has(t, b, "setting/x", "3")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	r.world.Kill("a")
	a = r.open("a")
	if get(a, "setting/x") != "3" || get(a, "setting/y") != "1" {
		t.Fatalf("after the restart: %v", a.List(""))
	}
}

// TestSyncFails: nobody knows what is on the medium then; all is written anew.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	m := newMedia()
	r := newRig(t, func(c *Config) { c.folder = m }, "a")
	a := r.nodes["a"]
	put(t, a, "x", "1")
	m.set(func() { m.failSync = true })
	for range 2 {
		err := a.Put("x", []byte("2"))
		if want := `the shared state cannot be stored, so that "x" was not changed: input/output error`; err == nil || err.Error() != want {
			t.Fatalf("error %v, want %s", err, want)
		}
	}
	m.set(func() { m.failSync = false })
	eventually(t, "it can be stored again", func() bool { return a.Put("x", []byte("3")) == nil })
	a.Close()
	m = m.cut(rand.New(rand.NewPCG(1, 1)))
	if a = r.open("a"); get(a, "x") != "3" {
		t.Fatalf("x is %s", get(a, "x"))
	}
}

// TestDamagedFiles: what is damaged is put aside and said, what is whole is used,
// and the rest comes from other nodes.
func TestDamagedFiles(t *testing.T) {
	flip := func(at func(n int) int) func([]byte) []byte {
		return func(b []byte) []byte { b[at(len(b))] ^= 0x40; return b }
	}
	for name, c := range map[string]struct {
		file   string
		damage func([]byte) []byte
		why    string
	}{
		"log cut":        {"log.0000000001", func(b []byte) []byte { return b[:len(b)-7] }, "it is damaged after"},
		"log flipped":    {"log.0000000001", flip(func(n int) int { return n / 3 }), "it is damaged after"},
		"log of zeros":   {"log.0000000001", func(b []byte) []byte { return append(b, make([]byte, 100)...) }, "it is damaged after"},
		"snapshot":       {"snapshot.0000000001", flip(func(n int) int { return n / 2 }), "it is damaged"},
		"snapshot cut":   {"snapshot.0000000001", func(b []byte) []byte { return b[:len(b)-3] }, "it is damaged"},
		"snapshot empty": {"snapshot.0000000001", func(b []byte) []byte { return nil }, "it is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil, "a", "b")
			for i := range 20 {
				put(t, r.nodes["a"], fmt.Sprintf("setting/%d", i), "1")
			}
			r.same()
			r.stop("a")
			file := filepath.Join(r.dir, "a", c.file)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, c.damage(data), 0o600); err != nil {
				t.Fatal(err)
			}
			a := r.open("a")
			if _, err := os.Stat(filepath.Join(r.dir, "a", "damaged."+c.file)); err != nil {
				t.Error(err)
			}
			if log := r.log.String(); !strings.Contains(log, `"a file of the shared state is damaged: what it had is taken from other nodes" file=`+c.file) || !strings.Contains(log, c.why) {
				t.Error(log)
			}
			put(t, a, "setting/new", "1")
			r.world.Start("a")
			r.same()
			if got := len(a.List("setting/")); got != 21 {
				t.Errorf("there are %d entries", got)
			}
			r.stop("a")
			if a = r.open("a"); len(a.List("setting/")) != 21 {
				t.Errorf("after the second restart there are %d entries", len(a.List("setting/")))
			}
		})
	}
}

// TestOneProcess: two would write over each other.
func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	first, err := openDirectory(dir, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_, err = openDirectory(dir, 50*time.Millisecond)
	if want := dir + ": another process uses it"; err == nil || err.Error() != want {
		t.Fatalf("error %v, want %s", err, want)
	}
	done := make(chan error)
	go func() {
		second, err := openDirectory(dir, 10*time.Second)
		if err == nil {
			err = second.Close()
		}
		done <- err
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryThatIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, nil, "a")
	c := r.config("a")
	c.Dir = file
	if _, err := Open(c); err == nil || err.Error() != "the shared state: mkdir "+file+": not a directory" {
		t.Fatal(err)
	}
}
