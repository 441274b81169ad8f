package logging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is where the log is written to.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// lines are the lines since they were last asked for, without their times.
func (o *output) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := o.b.String()
	o.b.Reset()
	var all []string
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		all = append(all, rest)
	}
	return all
}

func (o *output) want(t *testing.T, want ...string) {
	t.Helper()
	if got := o.lines(); !slices.Equal(got, want) {
		t.Errorf("the log says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestRateLimit follows one message through a flood: the first lines are written,
// then as many as the rate allows, each with the number of those left out before
// it, and when the flood has ended the rest is said.
func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		logs := New(Config{Out: &out, Rate: 2, Burst: 3})
		defer logs.Close()
		log := logs.Logger()
		for i := range 5 {
			log.Warn("flood", "n", i)
		}
		log.Info("flood", "n", 5) // another level is another kind
		log.Warn("other")
		out.want(t, `level=WARN msg=flood n=0`, `level=WARN msg=flood n=1`, `level=WARN msg=flood n=2`, `level=INFO msg=flood n=5`, `level=WARN msg=other`)

		time.Sleep(500 * time.Millisecond)
		log.Warn("flood", "n", 6)
		log.With("a", 1).Warn("flood", "n", 7)
		out.want(t, `level=WARN msg=flood n=6 suppressed=2`)

		time.Sleep(sayEvery - time.Millisecond)
		synctest.Wait()
		out.want(t)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		out.want(t, `level=WARN msg="log lines were left out" a=1 message=flood suppressed=1`)

		log.Warn("flood", "n", 8)
		out.want(t, `level=WARN msg=flood n=8`)
		if got, want := logs.Counts(), (Counts{Written: [4]uint64{0, 1, 7, 0}, Suppressed: [4]uint64{0, 0, 3, 0}}); got != want {
			t.Errorf("counts %+v, want %+v", got, want)
		}
	})
}

// TestAlways asserts that what must be written is, and spends nothing of what
// others may write.
func TestAlways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		logs := New(Config{Out: &out, Rate: 1, Burst: 1})
		defer logs.Close()
		always := Always(logs.Logger().With("a", 1))
		for range 50 {
			always.Info("answer")
		}
		logs.Logger().Info("answer")
		if got := len(out.lines()); got != 51 {
			t.Errorf("%d lines", got)
		}
		unlimited := New(Config{Out: &out})
		for range 50 {
			unlimited.Logger().Info("all of them")
		}
		if got := len(out.lines()); got != 50 {
			t.Errorf("%d lines without a limit", got)
		}
	})
	plain := slog.New(slog.DiscardHandler)
	if Always(plain) != plain {
		t.Error("another's logger is another afterwards")
	}
}

// TestManyKinds asserts that messages without end take bounded memory, and that
// old kinds make room for new ones.
func TestManyKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		logs := New(Config{Out: &out, Rate: 1, Burst: 2})
		defer logs.Close()
		for i := range 3 * maxKinds {
			logs.Logger().Info(fmt.Sprintf("message %d", i))
		}
		if got := len(logs.limit.buckets); got != maxKinds+1 {
			t.Errorf("%d buckets", got)
		}
		if got := len(out.lines()); got != maxKinds+2 {
			t.Errorf("%d lines", got)
		}
		time.Sleep(2 * time.Second)
		logs.Logger().Info("a new one")
		out.want(t, `level=INFO msg="a new one"`)
		if got := len(logs.limit.buckets); got != 2 { // the new one, and the rest, which has something to say
			t.Errorf("%d buckets", got)
		}
	})
}

// TestLevel changes the level of a running log: for a time, and for good.
func TestLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		logs := New(Config{Out: &out, Level: slog.LevelWarn})
		log := logs.Logger().With("a", 1)
		say := func(want ...string) {
			t.Helper()
			log.Debug("debug")
			log.Info("info")
			log.Error("error")
			out.want(t, want...)
		}
		say(`level=ERROR msg=error a=1`)
		logs.SetLevel(slog.LevelDebug, time.Minute)
		if got, want := logs.Level(), (LevelState{slog.LevelDebug, slog.LevelWarn, time.Now().Add(time.Minute)}); got != want {
			t.Errorf("level %+v, want %+v", got, want)
		}
		say(`level=DEBUG msg=debug a=1`, `level=INFO msg=info a=1`, `level=ERROR msg=error a=1`)
		time.Sleep(30 * time.Second)
		logs.SetLevel(slog.LevelInfo, time.Minute)
		time.Sleep(time.Minute - time.Nanosecond)
		say(`level=INFO msg=info a=1`, `level=ERROR msg=error a=1`)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		out.want(t, `level=INFO msg="log level is the configured one again" level=WARN`)
		say(`level=ERROR msg=error a=1`)

		logs.SetLevel(slog.LevelError, 0)
		time.Sleep(24 * time.Hour)
		if got, want := logs.Level(), (LevelState{Level: slog.LevelError, Configured: slog.LevelWarn}); got != want {
			t.Errorf("level %+v, want %+v", got, want)
		}
		logs.SetLevel(slog.LevelDebug, time.Minute)
		logs.Close()
		time.Sleep(time.Hour)
		say(`level=DEBUG msg=debug a=1`, `level=INFO msg=info a=1`, `level=ERROR msg=error a=1`)
	})
}

// TestRecent asserts that the last lines are kept, in their order, in bounded
// memory, as they were written.
func TestRecent(t *testing.T) {
	var out output
	logs := New(Config{Out: &out})
	defer logs.Close()
	log := logs.Logger()
	log.Debug("below the level")
	log.Info("first")
	if got := logs.Recent(); len(got) != 1 || !strings.HasSuffix(got[0], "level=INFO msg=first\n") {
		t.Errorf("recent %q", got)
	}
	for i := range keepLines + 10 {
		log.Info("line", "n", i)
	}
	got := logs.Recent()
	if len(got) != keepLines {
		t.Fatalf("%d lines are kept", len(got))
	}
	for i, line := range got {
		if want := fmt.Sprintf(" n=%d\n", i+10); !strings.HasSuffix(line, want) {
			t.Fatalf("line %d is %q, want %q", i, line, want)
		}
	}
	for range 100 {
		log.Info(strings.Repeat("x", 100_000))
	}
	log.Info("last")
	got = logs.Recent()
	sum := 0
	for _, line := range got {
		sum += len(line)
	}
	if sum > keepBytes || !strings.HasSuffix(got[len(got)-1], "msg=last\n") || !strings.HasSuffix(got[0], "x...\n") || len(got[0]) != longestKept+4 {
		t.Errorf("%d bytes in %d lines, the first of %d bytes, the last %q", sum, len(got), len(got[0]), got[len(got)-1])
	}
}

// TestJSON asserts that every line is an object with the same keys in front.
func TestJSON(t *testing.T) {
	var out output
	logs := New(Config{Out: &out, JSON: true, Rate: 1, Burst: 1})
	defer logs.Close()
	logs.Logger().With("interface", "eth0").WithGroup("g").Error("words\n\xff", "error", fmt.Errorf("why"))
	var line struct {
		Time      time.Time
		Level     string
		Msg       string
		Interface string
		G         struct{ Error string }
	}
	if err := json.Unmarshal([]byte(logs.Recent()[0]), &line); err != nil {
		t.Fatal(err)
	}
	if line.Level != "ERROR" || line.Msg != "words\n\ufffd" || line.Interface != "eth0" || line.G.Error != "why" || line.Time.IsZero() {
		t.Errorf("%+v", line)
	}
}

// TestLines asserts that what another program writes, in whatever pieces, becomes
// lines of the log.
func TestLines(t *testing.T) {
	var out output
	logs := New(Config{Out: &out})
	defer logs.Close()
	l := NewLines(logs.Logger().With("pid", 7), slog.LevelError, "data process says")
	for _, piece := range []string{"pan", "ic: no\n\ngorout", "ine 1\r\n", strings.Repeat("y", longestLine+2), "\nend"} {
		if n, err := l.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	const front = `level=ERROR msg="data process says" pid=7 line=`
	out.want(t, front+`"panic: no"`, front+`"goroutine 1"`, front+strings.Repeat("y", longestLine), front+"yy")
	l.Flush()
	l.Flush()
	out.want(t, front+"end")
}

// TestConcurrent has many write at once, while levels change.
func TestConcurrent(t *testing.T) {
	var out output
	logs := New(Config{Out: &out, Rate: 1000, Burst: 10})
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			log := logs.Logger().With("worker", w)
			for i := range 500 {
				log.Info("line", "n", i)
				Always(log).Info("always")
				logs.SetLevel(slog.LevelInfo, time.Hour)
				logs.Recent()
				logs.Counts()
			}
		})
	}
	all.Wait()
	logs.Close()
	c := logs.Counts()
	if got := c.Written[1] + c.Suppressed[1]; got != 4*2*500 {
		t.Errorf("%d lines are accounted for", got)
	}
	if got := uint64(len(out.lines())); got != c.Written[1] {
		t.Errorf("%d lines are written, %d counted", got, c.Written[1])
	}
}

// TestInherit asserts that the log of a process that is started is as that of its
// parent, and what it is when nobody has said anything, or nonsense.
func TestInherit(t *testing.T) {
	parent := New(Config{Out: new(output), JSON: true, Level: slog.LevelWarn, Rate: 3, Burst: 7})
	defer parent.Close()
	said := Environment(parent.Logger().With("a", 1))
	if len(said) != 1 {
		t.Fatalf("environment %q", said)
	}
	name, value, _ := strings.Cut(said[0], "=")
	for _, c := range []struct {
		value string
		want  Config
	}{
		{value, Config{JSON: true, Level: slog.LevelWarn, Rate: 3, Burst: 7}},
		{"", Config{}}, {"loud", Config{}}, {`{"Rate":-1,"Burst":-2}`, Config{}},
	} {
		t.Setenv(name, c.value)
		var out output
		child := Inherit(&out)
		if got := (Config{JSON: child.json, Level: child.Level().Level, Rate: child.rate, Burst: child.burst}); got != c.want {
			t.Errorf("%q: %+v, want %+v", c.value, got, c.want)
		}
		child.Logger().Info("info")
		if lines := out.lines(); (len(lines) == 1) != (c.want.Level == slog.LevelInfo) {
			t.Errorf("%q: %q", c.value, lines)
		}
		child.Close()
	}
	if got := Without([]string{"A=1", said[0], "B=2"}); !slices.Equal(got, []string{"A=1", "B=2"}) {
		t.Errorf("without it: %q", got)
	}
	if Environment(slog.New(slog.DiscardHandler)) != nil {
		t.Error("another's logger has something to say")
	}
}
