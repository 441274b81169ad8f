package desired

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// oracle is what a store should do, in the simplest words there are: versions
// are maps from source to a text, nothing is shared, nothing is stored.
type oracle struct {
	versions []oracleVersion
	wait     *oracleWait
	next     int
}

type oracleVersion struct {
	number   int
	declared map[string]string
	settings map[string]string
}

type oracleWait struct {
	version int
	until   time.Time
	source  string
	before  string
}

func (o *oracle) last() oracleVersion { return o.versions[len(o.versions)-1] }

// A declaration of the property test is written "p1 p2 s1:p2 s4:p1": pools, and
// services with their pools.
func parseShort(text string) *model.State {
	s := &model.State{}
	for word := range strings.FieldsSeq(text) {
		name, of, isService := strings.Cut(word, ":")
		var n int
		fmt.Sscanf(name[1:], "%d", &n)
		if isService {
			s.Services = append(s.Services, service(name, n, of))
		} else {
			s.Pools = append(s.Pools, pool(name, 2*n, 2*n+1))
		}
	}
	return s
}

// valid: each name has one owner, and each service a pool.
func valid(declared map[string]string) bool {
	owners, pools := map[string]bool{}, map[string]bool{}
	for _, text := range declared {
		for word := range strings.FieldsSeq(text) {
			name, _, isService := strings.Cut(word, ":")
			if owners[name] {
				return false
			}
			owners[name] = true
			if !isService {
				pools[name] = true
			}
		}
	}
	for _, text := range declared {
		for word := range strings.FieldsSeq(text) {
			if _, of, isService := strings.Cut(word, ":"); isService && !pools[of] {
				return false
			}
		}
	}
	return true
}

// put makes a version when it is valid and another one than the last. Settings
// of backends that nobody declares go.
func (o *oracle) put(declared, settings map[string]string) (ok bool) {
	if !valid(declared) {
		return false
	}
	there := map[string]bool{}
	for _, text := range declared {
		for word := range strings.FieldsSeq(text) {
			there[word] = true
		}
	}
	maps.DeleteFunc(settings, func(backend, _ string) bool { p, _, _ := strings.Cut(backend, " "); return !there[p] })
	if len(o.versions) > 0 && maps.Equal(declared, o.last().declared) && maps.Equal(settings, o.last().settings) {
		return true
	}
	o.versions = append(o.versions, oracleVersion{o.next, declared, settings})
	o.next++
	if n := len(o.versions) - 11; n > 0 {
		o.versions = o.versions[n:]
	}
	return true
}

func (o *oracle) declare(source, text string, now time.Time, confirm time.Duration) bool {
	if o.wait != nil && (source == SourceFile || source == SourceAPI) {
		return false
	}
	declared := maps.Clone(o.last().declared)
	before, had := declared[source]
	if !had {
		before = "none"
	}
	declared[source] = text
	number := o.next
	if !o.put(declared, maps.Clone(o.last().settings)) {
		return false
	}
	if confirm > 0 && o.next > number {
		o.wait = &oracleWait{number, now.Add(confirm), source, before}
	}
	return true
}

// back is what the settings are on the way back to a version.
func (o *oracle) back(then oracleVersion) map[string]string {
	settings := maps.Clone(o.last().settings)
	there := map[string]bool{}
	for _, text := range o.last().declared {
		for word := range strings.FieldsSeq(text) {
			there[word] = true
		}
	}
	for backend, s := range then.settings {
		if p, _, _ := strings.Cut(backend, " "); !there[p] {
			settings[backend] = s
		}
	}
	return settings
}

func (o *oracle) before(number int) *oracleVersion {
	var found *oracleVersion
	for i := range o.versions {
		if o.versions[i].number < number {
			found = &o.versions[i]
		}
	}
	return found
}

func (o *oracle) rollback(number int) bool {
	to := &oracleVersion{}
	if number == 0 {
		of := o.last().number
		if o.wait != nil {
			of = o.wait.version
		}
		if to = o.before(of); to == nil {
			return false
		}
	} else {
		at := slices.IndexFunc(o.versions, func(v oracleVersion) bool { return v.number == number })
		if at < 0 {
			return false
		}
		to = &o.versions[at]
	}
	if !o.put(maps.Clone(to.declared), o.back(*to)) {
		return false
	}
	o.wait = nil
	return true
}

func (o *oracle) tick(now time.Time) {
	w := o.wait
	if w == nil || now.Before(w.until) {
		return
	}
	declared := maps.Clone(o.last().declared)
	declared[w.source] = w.before
	if w.before == "none" {
		delete(declared, w.source)
	}
	settings := maps.Clone(o.last().settings)
	if v := o.before(w.version); v != nil {
		settings = o.back(*v)
	}
	if !valid(declared) { // another source builds on what is to go
		return
	}
	o.wait = nil
	if last := o.last(); maps.Equal(declared, last.declared) && maps.Equal(settings, last.settings) {
		o.versions = append(o.versions, oracleVersion{o.next, declared, settings})
		o.next++
		return
	}
	o.put(declared, settings)
}

func (o *oracle) set(backend, what string) {
	settings := maps.Clone(o.last().settings)
	settings[backend] = what
	if what == string(model.Enabled) {
		delete(settings, backend)
	}
	o.put(maps.Clone(o.last().declared), settings)
}

// text is all that there is to know of an oracle.
func (o *oracle) text() string {
	last := o.last()
	text := fmt.Sprintf("version %d of %d from %d, declared %v, settings %v", last.number, len(o.versions), o.versions[0].number, last.declared, last.settings)
	if o.wait != nil {
		text += fmt.Sprintf(", waits for %d until %s", o.wait.version, o.wait.until.Format("15:04:05"))
	}
	return text
}

// textOfStore is the same of a store.
func textOfStore(r *rig) string {
	declared, settings := map[string]string{}, map[string]string{}
	for source, d := range r.inForce.Declarations {
		declared[source] = short(d.State)
	}
	for _, s := range r.inForce.Settings {
		settings[s.Pool+" "+s.Endpoint.String()] = string(s.State)
	}
	h := r.History()
	text := fmt.Sprintf("version %d of %d from %d, declared %v, settings %v", r.Status().Version, len(h), h[len(h)-1].Number, declared, settings)
	if p := r.Status().Pending; p != nil {
		text += fmt.Sprintf(", waits for %d until %s", p.Version, p.Until.Format("15:04:05"))
	}
	return text
}

func short(s *model.State) string {
	var words []string
	for i := range s.Pools {
		words = append(words, s.Pools[i].Name)
	}
	for i := range s.Services {
		words = append(words, s.Services[i].Name+":"+s.Services[i].Pool)
	}
	return strings.Join(words, " ")
}

// someText is a random declaration: few names, so that sources meet.
func someText(r *rand.Rand) string {
	var words []string
	for _, n := range r.Perm(6)[:r.IntN(4)] {
		words = append(words, fmt.Sprint("p", n))
	}
	for _, n := range r.Perm(8)[:r.IntN(3)] {
		words = append(words, fmt.Sprintf("s%d:p%d", n+1, r.IntN(6)))
	}
	return strings.Join(words, " ")
}

// TestAgainstOracle makes random changes to a store and to the oracle, with
// restarts in between, and compares after each.
func TestAgainstOracle(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		files := newMemoryFiles()
		g := newRig(t, Config{files: files})
		g.begin(parseShort("p0 s1:p0"))
		o := &oracle{next: 2, versions: []oracleVersion{{1, map[string]string{SourceFile: "p0 s1:p0"}, map[string]string{}}}}
		fileSaid := "p0 s1:p0" // what the file said when it was read last
		var what string
		check := func(err error, ok bool) {
			t.Helper()
			if (err == nil) != ok {
				t.Fatalf("seed %d: %s: %v, want success %v", seed, what, err, ok)
			}
			if got, want := textOfStore(g), o.text(); got != want {
				t.Fatalf("seed %d: after %s (%v):\n%s\nwant\n%s", seed, what, err, got, want)
			}
		}
		for range 120 {
			switch r.IntN(10) {
			case 0, 1, 2, 3:
				source, text := []string{SourceFile, SourceAPI, "kubernetes"}[r.IntN(3)], someText(r)
				var confirm time.Duration
				if source == SourceAPI && r.IntN(3) == 0 {
					confirm = time.Minute
				}
				d := declaration(source, parseShort(text))
				if source == "kubernetes" {
					d = untyped(source, parseShort(text))
				}
				what = fmt.Sprintf("%s declares %q, to be confirmed within %v", source, text, confirm)
				_, err := g.Declare(d, Request{Confirm: confirm})
				check(err, o.declare(source, text, g.now, confirm))
				if err == nil && source == SourceFile {
					fileSaid = text
				}
			case 4, 5:
				n := r.IntN(6)
				p, end := fmt.Sprint("p", n), fmt.Sprintf("198.18.10.%d:80", 2*n)
				to := []model.AdminState{model.Drained, model.Disabled, model.Enabled}[r.IntN(3)]
				what = fmt.Sprintf("%s of %s is %s", end, p, to)
				_, err := g.SetBackend(p, end, Action{State: to}, Request{})
				if err == nil {
					o.set(p+" "+end, string(to))
				}
				check(err, err == nil)
			case 6:
				number := r.IntN(3) * (o.next - r.IntN(14))
				number = max(0, number/2)
				what = fmt.Sprintf("rollback to %d", number)
				_, err := g.Rollback(uint64(number), Request{})
				check(err, o.rollback(number))
			case 7:
				what = "confirm"
				_, err := g.Confirm()
				waited := o.wait != nil
				o.wait = nil
				check(err, waited)
			case 8:
				what = "time passes"
				g.now = g.now.Add(time.Duration(r.IntN(50)) * time.Second)
				g.Tick()
				o.tick(g.now)
				check(nil, true)
			case 9:
				what = fmt.Sprintf("a restart with the file %q", fileSaid)
				g.now = g.now.Add(time.Duration(r.IntN(20)) * time.Second)
				o.tick(g.now)
				g.restart()
				g.begin(parseShort(fileSaid))
				check(nil, true)
			}
		}
	}
}
