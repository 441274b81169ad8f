package desired

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a child of the test process does, and where.
const (
	childRole = "FAIRLEAD_TEST_DESIRED"
	childDir  = "FAIRLEAD_TEST_DIRECTORY"
)

// child does what the environment says in place of the tests.
func child() bool {
	roles := map[string]func(dir string) error{"write": writeForEver, "full": fillTheDisk}
	role, is := roles[os.Getenv(childRole)]
	if !is {
		return false
	}
	if err := role(os.Getenv(childDir)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return true
}

func childCommand(role, dir string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childRole+"="+role, childDir+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// openReal is a store on a real folder that has begun.
func openReal(dir string) (*Store, error) {
	s := Open(Config{Directory: dir, RemovalGuard: 100, Parse: parse})
	if s.Current() == nil {
		if _, err := s.Begin(declaration(SourceFile, state(pool("web", 1))), nil); err != nil {
			return nil, err
		}
	}
	s.Attach(func(*Desired) error { return nil })
	return s, nil
}

// writeForEver makes changes of which each can be told from its number, and
// says so after each.
func writeForEver(dir string) error {
	s, err := openReal(dir)
	if err != nil {
		return err
	}
	for {
		n := int(s.Status().Version) + 1
		if _, err := s.Declare(declaration(SourceAPI, state(pool("own", n%250, 250))), Request{}); err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

// TestKilledWhileWriting kills a process that makes changes one after the other
// with SIGKILL, at random moments. The next process has the last change that
// was made, or the one that was being made, as a whole.
func TestKilledWhileWriting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	last := 0
	for range 20 {
		cmd := childCommand("write", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		lines, made := bufio.NewScanner(out), 0
		for lines.Scan() {
			if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
				t.Errorf("the process says %q", lines.Text())
			}
			if made++; made == 3 {
				time.AfterFunc(time.Duration(rand.IntN(20_000))*time.Microsecond, func() { cmd.Process.Signal(syscall.SIGKILL) })
			}
		}
		timer.Stop()
		cmd.Wait()
		if made < 3 {
			t.Fatalf("%d changes were made: %v", made, cmd.ProcessState)
		}
		s := Open(Config{Directory: dir, Parse: parse})
		d := s.Current()
		if d == nil || len(s.Status().Conditions) > 0 {
			t.Fatalf("version %d was made; now there is %+v", last, s.Status())
		}
		n := int(d.Version.Number)
		if n != last && n != last+1 {
			t.Fatalf("version %d was made last; now there is %d", last, n)
		}
		if got := d.State.Pools[1].Backends[0].Address.As4()[3]; int(got) != n%250 {
			t.Fatalf("version %d has what %d should have", n, got)
		}
	}
	t.Logf("%d versions", last)
}

// TestFullDisk: a change for which there is no room does not take effect, and
// the next does when there is. It runs in a mount namespace of its own.
func TestFullDisk(t *testing.T) {
	cmd := childCommand("full", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Log(out.String())
}

func fillTheDisk(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	inForce := uint64(0)
	s := Open(Config{Directory: filepath.Join(dir, "state"), RemovalGuard: 100, Parse: parse})
	if _, err := s.Begin(declaration(SourceFile, state(pool("web", 1))), nil); err != nil {
		return err
	}
	s.Attach(func(d *Desired) error { inForce = d.Version.Number; return nil })
	refused := 0
	for free := range 40 { // pages that the change finds free
		filler := filepath.Join(dir, "filler")
		if err := fill(filler, free); err != nil {
			return err
		}
		before := s.Status().Version
		_, err := s.Declare(declaration(SourceAPI, state(pool("own", free, 100), pool("more", seq(40)...))), Request{})
		now := s.Status().Version
		stored := &StoreError{}
		switch {
		case err == nil && now == before+1 && inForce == now:
		case errors.As(err, &stored) && errors.Is(err, unix.ENOSPC) && now == before && inForce != before+1 && strings.HasSuffix(err.Error(), "no space left on device"):
			refused++
		default:
			return fmt.Errorf("with %d pages free: %w; version %d before, %d now, %d in force", free, err, before, now, inForce)
		}
		if again := Open(Config{Directory: filepath.Join(dir, "state"), Parse: parse}); again.Current() == nil || again.Current().Version.Number != now {
			return fmt.Errorf("with %d pages free: version %d is in force, on disk is %+v", free, now, again.Status())
		}
		if err := os.Remove(filler); err != nil {
			return err
		}
	}
	fmt.Printf("%d changes were refused, %d made", refused, inForce-1)
	if refused < 2 || inForce < 5 {
		return errors.New(": the disk was never full, or always")
	}
	return nil
}

func seq(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// fill takes all pages of the file system but some.
func fill(name string, free int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	page := make([]byte, os.Getpagesize())
	size := int64(0)
	for {
		n, err := f.Write(page)
		size += int64(n)
		if errors.Is(err, unix.ENOSPC) {
			return f.Truncate(max(0, size-int64(free*len(page))))
		}
		if err != nil {
			return err
		}
	}
}
