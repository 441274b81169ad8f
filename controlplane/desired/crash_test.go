package desired

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// journey is a random sequence of changes on a store, the same for the same
// seed.
type journey struct {
	rig  *rig
	rand *rand.Rand
}

func begin(t *testing.T, seed uint64, files fileSystem) *journey {
	j := &journey{rig: newRig(t, Config{files: files}), rand: rand.New(rand.NewPCG(seed, 1))}
	j.rig.begin(someState(j.rand, "f"))
	return j
}

// someState has pools and services that are named after their source, so that
// no two sources are in conflict.
func someState(r *rand.Rand, source string) *model.State {
	s := state(pool(source, r.Perm(5)[:1+r.IntN(4)]...))
	for n := range 1 + r.IntN(3) {
		at := 10*int(source[0]-'a') + n
		s.Services = append(s.Services, service(fmt.Sprint(source, n), at, source))
	}
	return s
}

// step makes a change. Errors are those of a failing disk, or of requests that
// have nothing to do, such as a confirmation when nothing waits.
func (j *journey) step() error {
	r, req := j.rand, Request{Comment: fmt.Sprint(j.rand.Uint32())}
	var err error
	switch r.IntN(8) {
	case 0, 1:
		_, err = j.rig.Declare(declaration(SourceFile, someState(r, "f")), req)
	case 2, 3:
		req.Confirm = time.Duration(r.IntN(2)) * time.Minute
		_, err = j.rig.Declare(declaration(SourceAPI, someState(r, "a")), req)
	case 4:
		_, err = j.rig.SetBackend("f", fmt.Sprintf("198.18.10.%d", r.IntN(5)), Action{State: []model.AdminState{model.Drained, model.Disabled, model.Enabled}[r.IntN(3)]}, req)
	case 5:
		_, err = j.rig.Rollback(uint64(r.IntN(3)), req)
	case 6:
		_, err = j.rig.Confirm()
	default:
		j.rig.now = j.rig.now.Add(time.Duration(r.IntN(90)) * time.Second)
		j.rig.Tick()
	}
	return err
}

// record is a version as it would be stored.
func record(v *Version) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

const journeySteps = 25

// TestCrashAtEveryStep stops the machine at every step of the file system in
// turn. What is there after the restart is what was in force before the change
// that was being made, or after it.
func TestCrashAtEveryStep(t *testing.T) {
	crashes := 0
	for seed := range uint64(4) {
		// Once through, to know what there is after each change.
		files := newCrashing()
		j := begin(t, seed, files)
		after, steps := []string{record(j.rig.current.version)}, []int{files.steps}
		for range journeySteps {
			j.step()
			after, steps = append(after, record(j.rig.current.version)), append(steps, files.steps)
		}
		for at := steps[0]; at < files.steps; at++ {
			crashes++
			broken := newCrashing()
			broken.crashAt = at
			j := begin(t, seed, broken)
			change := 0 // that is being made
			func() {
				defer func() {
					if p := recover(); p != nil && p != any(crashed{}) {
						panic(p)
					}
				}()
				for {
					change++
					j.step()
				}
			}()
			for range 2 { // what is there after a crash is a matter of chance
				files := broken.reboot(rand.New(rand.NewPCG(seed, uint64(at))))
				again := newRig(t, Config{files: files})
				if again.current == nil {
					t.Fatalf("seed %d, step %d, change %d: nothing is there: %s", seed, at, change, again.log.String())
				}
				got := record(again.current.version)
				if got != after[change-1] && got != after[change] {
					t.Fatalf("seed %d, step %d, change %d: after the restart there is\n%s\nwant\n%s\nor\n%s\n%s", seed, at, change, got, after[change-1], after[change], again.log.String())
				}
				if c := again.conditions(); c != "" && c != string(FileOverruled) {
					t.Errorf("seed %d, step %d: %+v", seed, at, again.Status().Conditions)
				}
				// Changes can be made as if nothing had been, and nothing is left over.
				again.begin(someState(rand.New(rand.NewPCG(seed, 9)), "f"))
				if _, err := again.Rollback(again.current.version.Number, Request{}); err != nil {
					t.Errorf("seed %d, step %d: %v", seed, at, err)
				}
				for name := range files.names {
					if strings.Contains(name, "/.") {
						t.Errorf("seed %d, step %d: %s is left over", seed, at, name)
					}
				}
			}
		}
	}
	t.Logf("%d crashes", crashes)
}

// TestFaultAtEveryStep has one step of the file system fail after the other. A
// change that is refused has not happened, neither in force nor, once the disk
// works again, on it.
func TestFaultAtEveryStep(t *testing.T) {
	faults := 0
	for seed := range uint64(4) {
		files := newCrashing()
		j := begin(t, seed, files)
		first := files.steps
		for range journeySteps {
			j.step()
		}
		for at := first; at < files.steps; at++ {
			broken := newCrashing()
			broken.failAt = at
			j := begin(t, seed, broken)
			for n := range journeySteps {
				before, inForce := record(j.rig.current.version), j.rig.inForce
				err := j.step()
				if broken.steps <= at {
					continue
				}
				faults++
				if err != nil && (record(j.rig.current.version) != before || j.rig.inForce != inForce) {
					t.Fatalf("seed %d, step %d, change %d: %v, and something has changed", seed, at, n, err)
				}
				if j.rig.inForce.Version.Number != j.rig.current.version.Number {
					t.Fatalf("seed %d, step %d: version %d is in force, %d is current", seed, at, j.rig.inForce.Version.Number, j.rig.current.version.Number)
				}
				j.rig.now = j.rig.now.Add(retryAfter)
				j.rig.Tick()
				want := record(j.rig.current.version)
				again := newRig(t, Config{files: broken.reboot(rand.New(rand.NewPCG(seed, uint64(at))))})
				if again.current == nil || record(again.current.version) != want {
					t.Fatalf("seed %d, step %d, change %d: %v; after a restart there is\n%s\nwant\n%s", seed, at, n, err, record(again.current.version), want)
				}
				break
			}
		}
	}
	t.Logf("%d faults", faults)
}

// TestDamage changes bytes of the state directory at random, cuts files off and
// removes them. The store comes up with a version that was in force once and is
// whole, says that it had to, and what it could not use lies aside.
func TestDamage(t *testing.T) {
	for seed := range uint64(150) {
		files := newCrashing()
		j := begin(t, seed, files)
		for range journeySteps {
			j.step()
		}
		known := map[string]bool{}
		for _, v := range j.rig.history {
			known[record(v)] = true
		}
		latest := record(j.rig.current.version)
		r := rand.New(rand.NewPCG(seed, 2))
		names, _ := files.List(versionsDir)
		for i := range names {
			names[i] = versionsDir + "/" + names[i]
		}
		more, _ := files.List(declarationsDir)
		for _, name := range more {
			names = append(names, declarationsDir+"/"+name)
		}
		for range 1 + r.IntN(3) {
			name := names[r.IntN(len(names))]
			data := append([]byte(nil), files.names[name]...)
			switch r.IntN(4) {
			case 0:
				delete(files.names, name)
				continue
			case 1:
				data = data[:r.IntN(len(data)+1)]
			case 2:
				data = append(data, 'x')
			default:
				if len(data) > 0 {
					data[r.IntN(len(data))] ^= 1 << r.IntN(8)
				}
			}
			files.names[name] = data
		}
		again := newRig(t, Config{files: files})
		if again.current == nil {
			if len(known) > 3 && again.conditions() != "state_damaged" {
				t.Fatalf("seed %d: nothing is there, and nothing said: %q", seed, again.conditions())
			}
			continue
		}
		got := record(again.current.version)
		if !known[got] {
			t.Fatalf("seed %d: there is a version that never was:\n%s", seed, got)
		}
		if aside, _ := files.List(asideDir); got != latest && len(aside) == 0 && len(again.conditions()) > 0 {
			t.Fatalf("seed %d: an older version is there, and nothing lies aside", seed)
		}
		before := again.current.version.Number
		again.begin(someState(r, "g"))
		if n := again.current.version.Number; n <= before || n <= j.rig.current.version.Number && files.names[versionsDir+"/"+versionFile(j.rig.current.version.Number)] != nil && n != before+1 {
			t.Fatalf("seed %d: version %d follows %d", seed, n, before)
		}
	}
}

// TestNewerFormat: a file of a later release is set aside, not misread, and not
// lost.
func TestNewerFormat(t *testing.T) {
	files := newCrashing()
	r := newRig(t, Config{files: files})
	r.begin(state(pool("web", 1)))
	r.declare(SourceAPI, state(pool("own", 1)), Request{})
	name := versionsDir + "/" + versionFile(2)
	later := []byte(strings.Replace(string(files.names[name]), "fairlead-desired 1 ", "fairlead-desired 2 ", 1))
	files.names[name] = later
	r.restart()
	r.wantConditions("state_damaged")
	if m := r.Status().Conditions[0].Message; m != "version 2 is unusable (it was written by a newer release); its file is now aside/0000000002" {
		t.Error(m)
	}
	if r.Current().Version.Number != 1 || string(files.names["aside/0000000002"]) != string(later) || !strings.Contains(r.log.String(), "written by a newer release") {
		t.Errorf("version %d; %s", r.Current().Version.Number, r.log.String())
	}
	// What it refers to is kept, and its number is not used again.
	if list, _ := files.List(declarationsDir); len(list) != 2 {
		t.Errorf("%v", list)
	}
	r.begin(state(pool("web", 2)))
	if r.inForce.Version.Number != 3 {
		t.Errorf("version %d", r.inForce.Version.Number)
	}
	for n := range 150 {
		files.names[fmt.Sprintf("%s/%010d", versionsDir, 1000+n)] = []byte("junk")
	}
	r.restart()
	if list, _ := files.List(asideDir); len(list) > keptAside {
		t.Errorf("%d files lie aside", len(list))
	}
}

// TestTwoWriters: a store that finds another's version where its own should go
// leaves it alone, and says so; when it is asked again, its own is the latest.
func TestTwoWriters(t *testing.T) {
	files := newMemoryFiles()
	one := newRig(t, Config{files: files})
	one.begin(state(pool("web", 1)))
	two := newRig(t, Config{files: files})
	two.begin(state(pool("web", 1)))
	two.declare(SourceAPI, state(pool("two", 2)), Request{})
	one.refused(declaration(SourceAPI, state(pool("one", 2))), Request{},
		"the change cannot be written to the state directory and does not take effect: another process has written to the state directory: there is a version 2 that is not ours")
	two.restart()
	if p := two.Current().State.Pools; len(p) != 2 || p[1].Name != "two" {
		t.Errorf("%+v", p)
	}
	if n := one.declare(SourceAPI, state(pool("one", 2)), Request{}).Version.Number; n != 3 {
		t.Errorf("version %d", n)
	}
	two.restart()
	if p := two.Current().State.Pools; len(p) != 2 || p[1].Name != "one" {
		t.Errorf("%+v", p)
	}
}
